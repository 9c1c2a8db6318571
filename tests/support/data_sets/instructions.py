"""Prompts and answers in columns."""

from __future__ import annotations

from tests.support.data_sets.data_set import DataSet, assistant, system, user

DATA_SETS: tuple[DataSet, ...] = (
    DataSet(
        "Alpaca",
        {"demonstrations": "instruction", "prompts": "prompt"},
        [
            {"instruction": "Add.", "input": "1 1", "output": "2"},
            {"instruction": "Name a color.", "input": "", "output": "Red."},
            {"instruction": "Name a bird.", "input": "<noinput>", "output": "Owl."},
        ],
        [
            [user("Add.\n\n1 1"), assistant("2")],
            [user("Name a color."), assistant("Red.")],
            [user("Name a bird."), assistant("Owl.")],
        ],
        prompts=[[user("Add.\n\n1 1")], [user("Name a color.")], [user("Name a bird.")]],
        ignored={"prompts": {"output"}},
    ),
    DataSet(
        "LLaMA-Factory Alpaca",
        {"demonstrations": "instruction", "prompts": "prompt"},
        [
            {
                "instruction": "And the next?",
                "input": "Only the name.",
                "output": "Venus.",
                "system": "You know the planets.",
                "history": [["Which planet is first?", "Mercury."]],
            },
            {"instruction": "Is it far?", "output": "No.", "kto_tag": True},
            {"instruction": "Is it near?", "output": "Who cares.", "kto_tag": False},
        ],
        [
            [
                system("You know the planets."),
                user("Which planet is first?"),
                assistant("Mercury."),
                user("And the next?\n\nOnly the name."),
                assistant("Venus."),
            ],
            [user("Is it far?"), assistant("No.")],
        ],
        prompts=[
            [
                system("You know the planets."),
                user("Which planet is first?"),
                assistant("Mercury."),
                user("And the next?\n\nOnly the name."),
            ],
            [user("Is it far?")],
            [user("Is it near?")],
        ],
        skipped={"demonstrations": {"the answer is marked as bad (`kto_tag`)": 1}},
        ignored={"prompts": {"output", "kto_tag"}},
    ),
    DataSet(
        "Dolly",
        {"demonstrations": "instruction"},
        [
            {"instruction": "When did it open?", "context": "It opened in 1901.", "response": "1901", "category": "qa"},
            {"instruction": "Name a fruit.", "context": "", "response": "Pear", "category": "brainstorming"},
        ],
        [
            [user("When did it open?\n\nIt opened in 1901."), assistant("1901")],
            [user("Name a fruit."), assistant("Pear")],
        ],
    ),
    DataSet(
        "self-instruct",
        {"demonstrations": "instruction", "prompts": "prompt"},
        [
            {
                "id": "seed_task_0",
                "name": "sums",
                "instruction": "Add.",
                "instances": [{"input": "1 1", "output": "2"}, {"input": "1 2", "output": "3"}],
                "is_classification": False,
            },
            {
                "id": "seed_task_1",
                "name": "tree",
                "instruction": "Name a tree.",
                "instances": [{"input": "", "output": "Oak"}],
                "is_classification": False,
            },
        ],
        [
            [user("Add.\n\n1 1"), assistant("2")],
            [user("Add.\n\n1 2"), assistant("3")],
            [user("Name a tree."), assistant("Oak")],
        ],
        prompts=[[user("Add.\n\n1 1")], [user("Add.\n\n1 2")], [user("Name a tree.")]],
        ignored={"demonstrations": {"id", "name", "is_classification"}},
    ),
    DataSet(
        "dolly_hhrlhf",
        {"demonstrations": "prompt and completion"},
        [
            {
                "prompt": "Below is an instruction that describes a task. Write a response that appropriately "
                "completes the request.\n\n### Instruction:\nName a lake.\n\n### Response:\n",
                "response": "Lake Constance.",
            },
            {
                "prompt": "Below is an instruction that describes a task, paired with an input that provides further "
                "context.\n\n### Instruction:\nTranslate.\n\n### Input:\nbonjour\n\n### Response:\n",
                "response": "hello",
            },
        ],
        [[user("Name a lake."), assistant("Lake Constance.")], [user("Translate.\n\nbonjour"), assistant("hello")]],
    ),
    DataSet(
        "OpenOrca",
        {"demonstrations": "question and answer", "prompts": "prompt"},
        [
            {"id": "niv.1", "system_prompt": "Explain.", "question": "Why is ice cold?", "response": "No heat."},
            {"id": "niv.2", "system_prompt": "", "question": "Is it wet?", "response": "Yes."},
        ],
        [
            [system("Explain."), user("Why is ice cold?"), assistant("No heat.")],
            [user("Is it wet?"), assistant("Yes.")],
        ],
        prompts=[[system("Explain."), user("Why is ice cold?")], [user("Is it wet?")]],
    ),
    DataSet(
        "TRL prompt and completion",
        {"demonstrations": "prompt and completion", "prompts": "prompt"},
        [
            {"prompt": "The sky is", "completion": " blue."},
            {"prompt": [user("What is red?")], "completion": [assistant("Blood.")]},
            {"prompt": "The sea is", "completion": " green.", "label": True},
            {"prompt": [user("What is it?")], "completion": [assistant("Shut up.")], "label": False},
        ],
        [
            [user("The sky is"), assistant("blue.")],
            [user("What is red?"), assistant("Blood.")],
            [user("The sea is"), assistant("green.")],
        ],
        prompts=[[user("The sky is")], [user("What is red?")], [user("The sea is")], [user("What is it?")]],
        skipped={"demonstrations": {"the answer is marked as bad (`label`)": 1}},
    ),
    DataSet(
        "GSM8K",
        {"demonstrations": "question and answer"},
        [{"question": "2 and 3?", "answer": "2 + 3 = 5\n#### 5"}, {"question": "Half of 8?", "answer": "#### 4"}],
        [[user("2 and 3?"), assistant("2 + 3 = 5\n#### 5")], [user("Half of 8?"), assistant("#### 4")]],
    ),
    DataSet(
        "FLAN",
        {"demonstrations": "inputs and targets", "prompts": "prompt"},
        [
            {"inputs": "Say yes.", "targets": "yes", "task": "t"},
            {"definition": "Negate.", "inputs": "hot", "targets": "cold"},
        ],
        [[user("Say yes."), assistant("yes")], [user("Negate.\n\nhot"), assistant("cold")]],
        prompts=[[user("Say yes.")], [user("Negate.\n\nhot")]],
    ),
    DataSet(
        "CAMEL",
        {"demonstrations": "columns by role"},
        [{"role_1": "Physicist", "topic": "light", "message_1": "How fast is light?", "message_2": "300,000 km/s."}],
        [[user("How fast is light?"), assistant("300,000 km/s.")]],
    ),
    DataSet(
        "guanaco",
        {"demonstrations": "text with marked turns"},
        [
            {"text": "### Human: Hi### Assistant: Hello.### Human: A cat?### Assistant: Tom."},
            {"text": "A text without marks."},
        ],
        [[user("Hi"), assistant("Hello."), user("A cat?"), assistant("Tom.")]],
        pretraining=["### Human: Hi### Assistant: Hello.### Human: A cat?### Assistant: Tom.", "A text without marks."],
        skipped={"demonstrations": {"no column that is known for this kind of data": 1}},
    ),
    DataSet(
        "context qa",
        {"demonstrations": "question and answer"},
        [
            {"article": "It rained.", "question": "Was it dry?", "answer": "No."},
            {"question": "Which?", "choices": ["a", "b"], "answer": "b"},
        ],
        [[user("Was it dry?\n\nIt rained."), assistant("No.")]],
        skipped={"demonstrations": {"a question with a list of choices (`choices`) has more than one rendering": 1}},
    ),
    DataSet(
        "text",
        {"pretraining": "document"},
        [{"text": "One.", "url": "u"}, {"content": [{"type": "text", "text": "Two."}]}, {"text": " "}],
        pretraining=["One.", "Two."],
        skipped={"pretraining": {"the document is empty": 1}},
        ignored={"pretraining": {"url"}},
    ),
    DataSet(
        "MATH",
        {"demonstrations": "question and answer"},
        [{"problem": "2x = 4", "level": "1", "solution": "Halve both sides: x = 2.", "answer": "2"}],
        [[user("2x = 4"), assistant("Halve both sides: x = 2.")]],
        ignored={"demonstrations": {"level", "answer"}},
    ),
    DataSet(
        "columns by role",
        {"demonstrations": "columns by role"},
        [{"system": "Be brief.", "user": "Hi", "assistant": "Hello."}, {"human": "Go.", "bot": "Gone."}],
        [[system("Be brief."), user("Hi"), assistant("Hello.")], [user("Go."), assistant("Gone.")]],
    ),
    DataSet(
        "table with capital heads",
        {"demonstrations": "prompt and completion", "prompts": "prompt"},
        [{"Prompt": "Hi", "Response ": "Hello.", "Context": "In a shop."}, {"INSTRUCTION": "Go.", "RESPONSE": "Gone."}],
        [[user("Hi\n\nIn a shop."), assistant("Hello.")], [user("Go."), assistant("Gone.")]],
        prompts=[[user("Hi\n\nIn a shop.")], [user("Go.")]],
    ),
    DataSet(
        "counselling",
        {"demonstrations": "inputs and targets"},
        [{"Context": "I cannot sleep.", "Response": "Read a book."}],
        [[user("I cannot sleep."), assistant("Read a book.")]],
    ),
    DataSet(
        "ChatML and hh in one text",
        {"demonstrations": "text with marked turns"},
        [
            {
                "text": "<|im_start|>system\nBe brief.<|im_end|>\n"
                "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>"
            },
            {"text": "\n\nHuman: Hi\n\nAssistant: Hello."},
        ],
        [[system("Be brief."), user("Hi"), assistant("Hello.")], [user("Hi"), assistant("Hello.")]],
    ),
)
