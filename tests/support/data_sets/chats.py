"""Conversations as lists."""

from __future__ import annotations

import json

from tests.support.data_sets.data_set import DataSet, assistant, context, sharegpt, system, user

DATA_SETS: tuple[DataSet, ...] = (
    DataSet(
        "ShareGPT",
        {"demonstrations": "conversation"},
        [
            {
                "id": "a1",
                "conversations": [sharegpt("human", "Hi"), sharegpt("gpt", "Hello."), sharegpt("human", "Bye")],
            },
            {
                "id": "a2",
                "conversations": [sharegpt("gpt", "Welcome."), sharegpt("human", "Hi"), sharegpt("gpt", "Hello.")],
            },
            {"conversations": [sharegpt("system", "Be brief."), sharegpt("user", "Hi"), sharegpt("chatgpt", "Hello.")]},
            {
                "conversations": [
                    sharegpt("human", "Time?"),
                    sharegpt("function_call", "{}"),
                    sharegpt("observation", "9"),
                    sharegpt("gpt", "Nine."),
                ],
                "tools": "[...]",
            },
        ],
        [
            [user("Hi"), assistant("Hello.")],
            [user("Hi"), assistant("Hello.")],
            [system("Be brief."), user("Hi"), assistant("Hello.")],
        ],
        skipped={"demonstrations": {"the row needs tools (`tools`)": 1}},
    ),
    DataSet(
        "ShareGPT with system",
        {"demonstrations": "conversation"},
        [
            {
                "system": "Be kind.",
                "conversations": [sharegpt("human", "Hi"), sharegpt("gpt", "Hello.")],
                "tools": "[]",
            },
            {"system": "", "conversations": [sharegpt("human", "Hi"), sharegpt("gpt", "Good day.")]},
            {
                "system": "A",
                "conversations": [sharegpt("system", "B"), sharegpt("human", "Hi"), sharegpt("gpt", "Hello.")],
            },
        ],
        [[system("Be kind."), user("Hi"), assistant("Hello.")], [user("Hi"), assistant("Good day.")]],
        skipped={"demonstrations": {"two different system prompts": 1}},
    ),
    DataSet(
        "OpenHermes",
        {"demonstrations": "conversation"},
        [
            {
                "system_prompt": "You are a guide.",
                "conversations": [
                    {"from": "human", "value": "Where?", "weight": None},
                    {"from": "gpt", "value": "Here.", "weight": None},
                ],
                "source": "guides",
                "views": None,
            }
        ],
        [[system("You are a guide."), user("Where?"), assistant("Here.")]],
        ignored={"demonstrations": {"source"}},
    ),
    DataSet(
        "SlimOrca",
        {"demonstrations": "conversation"},
        [
            {
                "conversations": [
                    {"from": "system", "value": "Think.", "weight": None},
                    {"from": "human", "value": "2 + 2?", "weight": 0.0},
                    {"from": "gpt", "value": "4", "weight": 1.0},
                ]
            }
        ],
        [[system("Think."), user("2 + 2?"), assistant("4")]],
    ),
    DataSet(
        "OpenAI messages",
        {"demonstrations": "conversation", "prompts": "conversation"},
        [
            {
                "messages": [
                    {"role": "developer", "content": "Be brief."},
                    user("Capital of Peru?"),
                    {"role": "assistant", "content": "Cusco.", "weight": 0},
                    user("Are you sure?"),
                    {"role": "assistant", "content": "Lima.", "weight": 1},
                ]
            },
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "Count "}, {"type": "text", "text": "to 2"}]},
                    {"role": "assistant", "content": ["1, ", {"type": "text", "text": "2"}]},
                ]
            },
            {
                "messages": [
                    user("Weather?"),
                    {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function"}]},
                    {"role": "tool", "tool_call_id": "c1", "content": "sun"},
                    assistant("Sunny."),
                ]
            },
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a"}}]},
                    assistant("A cat."),
                ]
            },
        ],
        [
            [
                system("Be brief."),
                user("Capital of Peru?"),
                context("Cusco."),
                user("Are you sure?"),
                assistant("Lima."),
            ],
            [user("Count to 2"), assistant("1, 2")],
        ],
        prompts=[
            [system("Be brief."), user("Capital of Peru?"), assistant("Cusco."), user("Are you sure?")],
            [user("Count to 2")],
        ],
        skipped={
            kind: {"a turn calls a tool or holds its result": 1, "a message holds something other than text": 1}
            for kind in ("demonstrations", "prompts")
        },
    ),
    DataSet(
        "axolotl conversations",
        {"demonstrations": "conversation"},
        [
            {
                "conversations": [
                    sharegpt("human", "Hi") | {"train": False},
                    sharegpt("assistant", "Hey") | {"train": False},
                    sharegpt("human", "How are you?") | {"train": None},
                    sharegpt("assistant", "Well.") | {"train": True},
                ]
            },
            {"conversations": [{"role": "user", "value": "Go."}, {"role": "model", "value": "Gone."}]},
            {"conversations": [sharegpt("human", "Hi") | {"train": True}, sharegpt("assistant", "Hey")]},
            {
                "conversations": [
                    sharegpt("human", "Hi"),
                    sharegpt("assistant", "Hey") | {"train_detail": [{"train": True}]},
                ]
            },
            {"segments": [{"label": False, "text": "<s>Hi\n"}, {"label": True, "text": "Hello</s>"}], "messages": [1]},
        ],
        [[user("Hi"), context("Hey"), user("How are you?"), assistant("Well.")], [user("Go."), assistant("Gone.")]],
        skipped={
            "demonstrations": {
                "a user's turn is marked to be learned": 1,
                "`train_detail` marks parts of a turn": 1,
                "`segments` hold finished text without roles": 1,
            }
        },
    ),
    DataSet(
        "UltraChat 200k",
        {"demonstrations": "conversation"},
        [
            {"prompt": "Hi", "prompt_id": "p1", "messages": [user("Hi"), assistant("Hello.")]},
            {"prompt": "Something else", "prompt_id": "p2", "messages": [user("Hi"), assistant("Hello.")]},
        ],
        [[user("Hi"), assistant("Hello.")]],
        skipped={"demonstrations": {"`prompt` and the conversation disagree": 1}},
    ),
    DataSet(
        "UltraChat",
        {"demonstrations": "conversation"},
        [{"id": "0", "data": ["Hi", "Hello.", "A fruit?", "Fig."]}],
        [[user("Hi"), assistant("Hello."), user("A fruit?"), assistant("Fig.")]],
    ),
    DataSet(
        "LIMA",
        {"demonstrations": "conversation"},
        [{"conversations": ["Hi", "Hello."], "source": "x"}, {"conversations": ["A", "B", "C", "D"], "source": "y"}],
        [[user("Hi"), assistant("Hello.")], [user("A"), assistant("B"), user("C"), assistant("D")]],
    ),
    DataSet(
        "Capybara",
        {"demonstrations": "conversation", "prompts": "conversation"},
        [{"source": "s", "conversation": [{"input": "Hi", "output": "Hello."}, {"input": "Go", "output": "Gone."}]}],
        [[user("Hi"), assistant("Hello."), user("Go"), assistant("Gone.")]],
        prompts=[[user("Hi"), assistant("Hello."), user("Go")]],
    ),
    DataSet(
        "WildChat",
        {"demonstrations": "conversation"},
        [
            {
                "conversation_hash": "h",
                "conversation": [
                    {"role": "user", "content": "Hi", "toxic": False, "redacted": False, "language": "English"},
                    {"role": "assistant", "content": "Hello.", "toxic": False, "redacted": False},
                ],
                "toxic": False,
                "redacted": False,
            }
        ],
        [[user("Hi"), assistant("Hello.")]],
        ignored={"demonstrations": {"conversation_hash", "toxic", "redacted"}},
    ),
    DataSet(
        "Magpie",
        {"demonstrations": "conversation"},
        [
            {
                "instruction": "Name a star.",
                "response": "Vega.",
                "conversations": [sharegpt("human", "Name a star."), sharegpt("gpt", "Vega.")],
            }
        ],
        [[user("Name a star."), assistant("Vega.")]],
        ignored={"demonstrations": {"response"}},
    ),
    DataSet(
        "Gemini",
        {"demonstrations": "conversation"},
        [
            {
                "systemInstruction": {"role": "system", "parts": [{"text": "Be brief."}]},
                "contents": [
                    {"role": "user", "parts": [{"text": "Hi"}]},
                    {"role": "model", "parts": [{"text": "Hel"}, {"text": "lo."}]},
                ],
            }
        ],
        [[system("Be brief."), user("Hi"), assistant("Hello.")]],
    ),
    DataSet(
        "conversations in a table",
        {"demonstrations": "conversation"},
        [
            {"messages": json.dumps([user("Hi"), assistant("Hello.")])},
            {"messages": str([user("Go"), assistant("Gone.")])},
            {"conversations": {"from": ["human", "gpt"], "value": ["Who?", "Me."]}},
        ],
        [[user("Hi"), assistant("Hello.")], [user("Go"), assistant("Gone.")], [user("Who?"), assistant("Me.")]],
    ),
    DataSet(
        "messages with the answer apart",
        {"demonstrations": "conversation"},
        [{"messages": [user("Hi")], "completion": "Hello.", "model": "m"}],
        [[user("Hi"), assistant("Hello.")]],
        ignored={"demonstrations": {"model"}},
    ),
    DataSet(
        "reasoning apart",
        {"demonstrations": "conversation"},
        [
            {"messages": [user("Hi"), assistant("Hello.") | {"thinking": "A greeting."}]},
            {"messages": [user("Hi"), assistant("Hello.") | {"thinking": None}]},
            {"messages": [user("Hi"), assistant("Hello.") | {"weight": 0}]},
            {"messages": [user("Hi"), assistant("Hello.") | {"weight": 0.5}]},
            {"messages": [user("Hi"), assistant("Hello.")], "images": ["a.png"]},
            {"messages": [user("Hi"), assistant("Hello.")], "images": []},
        ],
        [[user("Hi"), assistant("Hello.")]] * 2,
        skipped={
            "demonstrations": {
                "a message keeps its reasoning apart from its answer": 1,
                "no turn of the assistant is to be learned": 1,
                "a message's weight is not 0 or 1": 1,
                "the row needs more than text (`images`)": 1,
            }
        },
    ),
)
