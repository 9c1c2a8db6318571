"""A better and a worse response."""

from __future__ import annotations

from tests.support.data_sets.data_set import DataSet, Judged, assistant, sharegpt, system, user

HH_PROMPT = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Name a river.\n\nAssistant:"
HH_TURNS = [user("Hi"), assistant("Hello."), user("Name a river.")]


DATA_SETS: tuple[DataSet, ...] = (
    DataSet(
        "hh-rlhf",
        {"comparisons": "chosen and rejected", "prompts": "chosen and rejected"},
        [
            {"chosen": f"{HH_PROMPT} The Rhine.", "rejected": f"{HH_PROMPT} No."},
            {"chosen": "\n\nHuman: A\n\nAssistant: B", "rejected": "\n\nHuman: C\n\nAssistant: D"},
        ],
        comparisons=[Judged(HH_TURNS, ["The Rhine.", "No."], [1, 2])],
        prompts=[HH_TURNS],
        skipped={kind: {"chosen and rejected differ before their last turn": 1} for kind in ("comparisons", "prompts")},
    ),
    DataSet(
        "Dahoas full-hh-rlhf",
        {"comparisons": "chosen and rejected", "demonstrations": "prompt and completion", "prompts": "prompt"},
        [{"prompt": HH_PROMPT, "response": " The Rhine.", "chosen": " The Rhine.", "rejected": " No."}],
        [[*HH_TURNS, assistant("The Rhine.")]],
        [Judged(HH_TURNS, ["The Rhine.", "No."], [1, 2])],
        [HH_TURNS],
        ignored={"comparisons": {"response"}, "demonstrations": {"chosen", "rejected"}},
    ),
    DataSet(
        "TRL preference",
        {"comparisons": "chosen and rejected"},
        [
            {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."},
            {"chosen": "The sky is blue.", "rejected": "The sky is green."},
            {"prompt": [user("q")], "chosen": [assistant("good")], "rejected": [assistant("bad")]},
            {"chosen": [user("q"), assistant("good")], "rejected": [user("q"), assistant("bad")]},
        ],
        comparisons=[
            Judged([user("The sky is")], ["blue.", "green."], [1, 2]),
            Judged([user("The sky is")], ["blue.", "green."], [1, 2]),
            Judged([user("q")], ["good", "bad"], [1, 2]),
            Judged([user("q")], ["good", "bad"], [1, 2]),
        ],
    ),
    DataSet(
        "UltraFeedback binarized",
        {"comparisons": "chosen and rejected", "demonstrations": "conversation"},
        [
            {
                "prompt": "Name a sea.",
                "prompt_id": "p1",
                "chosen": [user("Name a sea."), assistant("The North Sea.")],
                "rejected": [user("Name a sea."), assistant("No.")],
                "messages": [user("Name a sea."), assistant("The North Sea.")],
                "score_chosen": 8.5,
                "score_rejected": 3.0,
            },
            {
                "prompt": "Name a lake.",
                "prompt_id": "p2",
                "chosen": [user("Name a lake."), assistant("Como.")],
                "rejected": [user("Name a lake."), assistant("Garda.")],
                "messages": [user("Name a lake."), assistant("Como.")],
                "score_chosen": 7.0,
                "score_rejected": 7.0,
            },
            {
                "prompt": "Name a hill.",
                "prompt_id": "p3",
                "chosen": [user("Name a hill."), assistant("x")],
                "rejected": [user("Name a hill."), assistant("y")],
                "messages": [user("Name a hill."), assistant("x")],
                "score_chosen": 1.0,
                "score_rejected": 7.0,
            },
            {
                "prompt": "Name a city.",
                "prompt_id": "p4",
                "chosen": [user("Name a town."), assistant("x")],
                "rejected": [user("Name a town."), assistant("y")],
                "messages": [user("Name a town."), assistant("x")],
                "score_chosen": 2.0,
                "score_rejected": 1.0,
            },
        ],
        [
            [user("Name a sea."), assistant("The North Sea.")],
            [user("Name a lake."), assistant("Como.")],
            [user("Name a hill."), assistant("x")],
        ],
        [
            Judged([user("Name a sea.")], ["The North Sea.", "No."], [1, 2]),
            Judged([user("Name a lake.")], ["Como.", "Garda."], [1, 1]),
        ],
        skipped={
            "comparisons": {"the chosen response has the lower score": 1, "`chosen` and the conversation disagree": 1},
            "demonstrations": {"`prompt` and the conversation disagree": 1},
        },
    ),
    DataSet(
        "Orca DPO pairs",
        {"comparisons": "chosen and rejected", "prompts": "prompt"},
        [
            {"system": "Explain.", "question": "Why?", "chosen": "Because of x.", "rejected": "No."},
            {"system": "", "input": "How?", "chosen": "So.", "rejected": "No.", "status": "tie"},
        ],
        comparisons=[
            Judged([system("Explain."), user("Why?")], ["Because of x.", "No."], [1, 2]),
            Judged([user("How?")], ["So.", "No."], [1, 1]),
        ],
        prompts=[[system("Explain."), user("Why?")], [user("How?")]],
    ),
    DataSet(
        "LLaMA-Factory preferences",
        {"comparisons": "chosen and rejected"},
        [
            {"instruction": "Add.", "input": "1 1", "chosen": "2", "rejected": "3"},
            {
                "conversations": [sharegpt("human", "Hi"), sharegpt("gpt", "Hello."), sharegpt("human", "A day?")],
                "chosen": sharegpt("gpt", "Monday."),
                "rejected": sharegpt("gpt", "No."),
                "system": "Be brief.",
            },
        ],
        comparisons=[
            Judged([user("Add.\n\n1 1")], ["2", "3"], [1, 2]),
            Judged([system("Be brief."), user("Hi"), assistant("Hello."), user("A day?")], ["Monday.", "No."], [1, 2]),
        ],
    ),
    DataSet(
        "axolotl preferences",
        {"comparisons": "chosen and rejected"},
        [
            {
                "messages": [system("Be brief."), user("A day?")],
                "chosen": assistant("Monday."),
                "rejected": assistant("No."),
            },
            {
                "system": "Be brief.",
                "prompt": "A day?",
                "chosen": [user("A day?"), assistant("Monday.")],
                "rejected": [user("A day?"), assistant("No.")],
            },
        ],
        comparisons=[Judged([system("Be brief."), user("A day?")], ["Monday.", "No."], [1, 2])] * 2,
    ),
    DataSet(
        "argilla preferences",
        {"comparisons": "chosen_response and rejected_response"},
        [
            {
                "instruction": "q",
                "chosen_response": "good",
                "rejected_response": "bad",
                "chosen_avg_rating": 4.5,
                "rejected_avg_rating": 2.0,
            }
        ],
        comparisons=[Judged([user("q")], ["good", "bad"], [1, 2])],
    ),
    DataSet(
        "stack exchange paired",
        {"comparisons": "response_j and response_k"},
        [{"qid": 4, "question": "q", "response_j": "good", "response_k": "bad"}],
        comparisons=[Judged([user("q")], ["good", "bad"], [1, 2])],
    ),
    DataSet(
        "CValues",
        {"comparisons": "pos_resp and neg_resp"},
        [{"prompt": "q", "pos_resp": "good", "neg_resp": "bad", "pos_type": "x", "neg_type": "y"}],
        comparisons=[Judged([user("q")], ["good", "bad"], [1, 2])],
    ),
    DataSet(
        "HALOs",
        {"comparisons": "preferred and dispreferred"},
        [{"prompt": "q", "preferred": "good", "dispreferred": "bad"}],
        comparisons=[Judged([user("q")], ["good", "bad"], [1, 2])],
    ),
    DataSet(
        "UltraInteract pairs",
        {"comparisons": "chosen and rejected"},
        [{"task": "math", "trajectory": [sharegpt("user", "Solve x.")], "chosen": "x = 1", "rejected": "x = 2"}],
        comparisons=[Judged([user("Solve x.")], ["x = 1", "x = 2"], [1, 2])],
    ),
    DataSet(
        "OpenAI preferences",
        {"comparisons": "preferred_output and non_preferred_output", "prompts": "prompt"},
        [
            {
                "input": {"messages": [system("Be brief."), user("Hi")], "tools": [], "parallel_tool_calls": True},
                "preferred_output": [assistant("Hello.")],
                "non_preferred_output": [assistant("Who are you?")],
            },
            {
                "input": {"messages": [user("Hi")], "tools": [{"type": "function"}]},
                "preferred_output": [assistant("Hello.")],
                "non_preferred_output": [assistant("No.")],
            },
        ],
        comparisons=[Judged([system("Be brief."), user("Hi")], ["Hello.", "Who are you?"], [1, 2])],
        prompts=[[system("Be brief."), user("Hi")]],
        skipped={kind: {"the row needs tools (`tools`)": 1} for kind in ("comparisons", "prompts")},
    ),
    DataSet(
        "one chosen and several rejected",
        {"comparisons": "chosen and rejected"},
        [{"prompt": "q", "chosen": "good", "rejected": ["bad", "worse"]}],
        comparisons=[Judged([user("q")], ["good", "bad", "worse"], [1, 2, 2])],
    ),
    DataSet(
        "RLAIF-V without pictures",
        {"comparisons": "chosen and rejected"},
        [
            {
                "prompt": [{"role": "user", "content": [{"type": "text", "text": "Describe."}]}],
                "chosen": [{"role": "assistant", "content": [{"type": "text", "text": "A cat."}]}],
                "rejected": [{"role": "assistant", "content": [{"type": "text", "text": "A dog."}]}],
                "images": images,
            }
            for images in ([], ["cat.png"])
        ],
        comparisons=[Judged([user("Describe.")], ["A cat.", "A dog."], [1, 2])],
        skipped={"comparisons": {"the row needs more than text (`images`)": 1}},
    ),
)
