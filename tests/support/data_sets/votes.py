"""Two named responses and a verdict."""

from __future__ import annotations

import json

from tests.support.data_sets.data_set import DataSet, Judged, assistant, user

DATA_SETS: tuple[DataSet, ...] = (
    DataSet(
        "HelpSteer2 preference",
        {"comparisons": "HelpSteer2 preference"},
        [
            {
                "split": "train",
                "prompt": "q",
                "response_1": "a",
                "response_2": "b",
                "preference_strength": -2,
                "preference_statement": "s",
                "preference_elaboration": "e",
            },
            {"split": "train", "prompt": "q", "response_1": "a", "response_2": "c", "preference_strength": 3},
            {"split": "val", "prompt": "q", "response_1": "a", "response_2": "d", "preference_strength": 0},
        ],
        comparisons=[
            Judged([user("q")], ["a", "b"], [1, 2]),
            Judged([user("q")], ["a", "c"], [2, 1]),
            Judged([user("q")], ["a", "d"], [1, 1]),
        ],
    ),
    DataSet(
        "HelpSteer3 preference",
        {"comparisons": "HelpSteer3 preference", "prompts": "HelpSteer3 preference"},
        [
            {
                "domain": "general",
                "language": "english",
                "context": [user("Hi"), assistant("Hello."), user("A moon?")],
                "response1": "Io.",
                "response2": "Mars.",
                "overall_preference": -1,
            }
        ],
        comparisons=[Judged([user("Hi"), assistant("Hello."), user("A moon?")], ["Io.", "Mars."], [1, 2])],
        prompts=[[user("Hi"), assistant("Hello."), user("A moon?")]],
    ),
    DataSet(
        "SHP",
        {"comparisons": "SHP", "prompts": "SHP"},
        [
            {
                "post_id": "p1",
                "domain": "d_train",
                "history": "How to peel it?",
                "human_ref_A": "By hand.",
                "human_ref_B": "With a knife.",
                "labels": 1,
                "score_A": 10,
                "score_B": 3,
            },
            {
                "post_id": "p1",
                "domain": "d_train",
                "history": "How to peel it?",
                "human_ref_A": "Not.",
                "human_ref_B": "With a knife.",
                "labels": 0,
                "score_A": 2,
                "score_B": 3,
            },
        ],
        comparisons=[
            Judged([user("How to peel it?")], ["By hand.", "With a knife."], [1, 2]),
            Judged([user("How to peel it?")], ["Not.", "With a knife."], [2, 1]),
        ],
        prompts=[[user("How to peel it?")], [user("How to peel it?")]],
        ignored={"comparisons": {"post_id", "domain", "score_A", "score_B"}},
    ),
    DataSet(
        "PKU-SafeRLHF",
        {"comparisons": "PKU-SafeRLHF"},
        [
            {
                "prompt": "q",
                "response_0": "a",
                "response_1": "b",
                "is_response_0_safe": True,
                "is_response_1_safe": False,
                "better_response_id": 1,
                "safer_response_id": 0,
            },
            {
                "prompt": "q",
                "response_0": "a",
                "response_1": "c",
                "is_response_0_safe": True,
                "is_response_1_safe": True,
                "better_response_id": 0,
                "safer_response_id": 0,
            },
        ],
        comparisons=[Judged([user("q")], ["a", "b"], [2, 1]), Judged([user("q")], ["a", "c"], [1, 2])],
        ignored={"comparisons": {"is_response_0_safe", "is_response_1_safe", "safer_response_id"}},
    ),
    DataSet(
        "summarize_from_feedback",
        {"comparisons": "summarize_from_feedback", "prompts": "summarize_from_feedback"},
        [
            {
                "info": {
                    "id": "t3_1",
                    "post": "My bike broke.",
                    "title": "Bike",
                    "subreddit": "advice",
                    "site": None,
                    "article": None,
                },
                "summaries": [
                    {"text": " It broke.", "policy": "sup", "note": "n"},
                    {"text": " Broken bike, what now?", "policy": "ref", "note": "n"},
                ],
                "choice": 1,
                "worker": "w1",
                "batch": "batch3",
                "split": "train",
                "extra": {"confidence": 8},
            }
        ],
        comparisons=[
            Judged(
                [user("SUBREDDIT: r/advice\n\nTITLE: Bike\n\nPOST: My bike broke.\n\nTL;DR:")],
                ["It broke.", "Broken bike, what now?"],
                [2, 1],
                labeler="w1",
            )
        ],
        prompts=[[user("SUBREDDIT: r/advice\n\nTITLE: Bike\n\nPOST: My bike broke.\n\nTL;DR:")]],
        ignored={"comparisons": {"batch", "split", "extra"}},
    ),
    DataSet(
        "Chatbot Arena",
        {"comparisons": "Arena votes", "prompts": "Arena votes"},
        [
            {
                "question_id": f"q{i}",
                "model_a": "m",
                "model_b": "n",
                "winner": winner,
                "judge": f"arena_user_{i}",
                "conversation_a": [user("Hi"), assistant("A")],
                "conversation_b": [user("Hi"), assistant(f"B{i}")],
                "turn": 1,
                "anony": True,
                "language": "English",
            }
            for i, winner in enumerate(("model_a", "model_b", "tie", "tie (bothbad)"))
        ]
        + [
            {
                "winner": "both_bad",
                "model_a": "m",
                "model_b": "n",
                "conversation_a": json.dumps([user("Hi"), assistant("A")]),
                "conversation_b": json.dumps([user("Hi"), assistant("C")]),
            },
            {
                "winner": "model_a",
                "conversation_a": [user("Hi"), assistant("A"), user("Go"), assistant("A2")],
                "conversation_b": [user("Hi"), assistant("B"), user("Go"), assistant("B2")],
                "turn": 2,
            },
            {
                "winner": "model_a",
                "conversation_a": [user("Hi"), assistant("A"), user("Go"), assistant("A2")],
                "conversation_b": [user("Hi"), assistant("B"), user("Go"), assistant("B2")],
                "turn": 1,
            },
        ],
        comparisons=[
            Judged([user("Hi")], ["A", "B0"], [1, 2], labeler="arena_user_0"),
            Judged([user("Hi")], ["A", "B1"], [2, 1], labeler="arena_user_1"),
            Judged([user("Hi")], ["A", "B2"], [1, 1], labeler="arena_user_2"),
            Judged([user("Hi")], ["A", "B3"], [1, 1], all_bad=True, labeler="arena_user_3"),
            Judged([user("Hi")], ["A", "C"], [1, 1], all_bad=True),
            Judged([user("Hi")], ["A", "B"], [1, 2]),
        ],
        prompts=[[user("Hi")]] * 6,
        skipped={
            kind: {"conversation_a and conversation_b differ before their last turn": 1}
            for kind in ("comparisons", "prompts")
        },
    ),
    DataSet(
        "Arena 55k",
        {"comparisons": "Arena votes in columns", "prompts": "Arena votes in columns"},
        [
            {
                "id": 1,
                "model_a": "m",
                "model_b": "n",
                "prompt": '["Hi"]',
                "response_a": '["A"]',
                "response_b": '["B"]',
                "winner_model_a": 0,
                "winner_model_b": 1,
                "winner_tie": 0,
            },
            {
                "id": 2,
                "model_a": "m",
                "model_b": "n",
                "prompt": '["Hi","Go"]',
                "response_a": '["A","C"]',
                "response_b": '["B","D"]',
                "winner_model_a": 0,
                "winner_model_b": 0,
                "winner_tie": 1,
            },
        ],
        comparisons=[Judged([user("Hi")], ["A", "B"], [2, 1])],
        prompts=[[user("Hi")]],
        skipped={kind: {"a battle over several turns has no one prompt": 1} for kind in ("comparisons", "prompts")},
    ),
    DataSet(
        "WebGPT comparisons",
        {"comparisons": "WebGPT comparisons", "prompts": "prompt"},
        [
            {
                "question": {"dataset": "eli5", "id": "1", "full_text": "Why?"},
                "quotes_0": {"title": ["t"]},
                "answer_0": "So [1].",
                "score_0": -0.5,
                "answer_1": "Thus.",
                "score_1": 0.5,
            },
            {
                "question": {"dataset": "eli5", "id": "2", "full_text": "How?"},
                "answer_0": "So.",
                "score_0": 0.0,
                "answer_1": "Thus.",
                "score_1": 0.0,
            },
        ],
        comparisons=[
            Judged([user("Why?")], ["So [1].", "Thus."], [2, 1]),
            Judged([user("How?")], ["So.", "Thus."], [1, 1]),
        ],
        prompts=[[user("Why?")], [user("How?")]],
        ignored={"comparisons": {"quotes_0"}},
    ),
    DataSet(
        "AlpacaFarm",
        {"comparisons": "AlpacaFarm"},
        [
            {"instruction": "Add.", "input": "1 1", "output_1": "2", "output_2": "3", "preference": 1},
            {"instruction": "Add.", "input": "", "output_1": "2", "output_2": "3", "preference": 2},
        ],
        comparisons=[Judged([user("Add.\n\n1 1")], ["2", "3"], [1, 2]), Judged([user("Add.")], ["2", "3"], [2, 1])],
    ),
    DataSet(
        "two responses and a winner",
        {"comparisons": "two responses and a winner"},
        [{"prompt": "q", "response_a": "a", "response_b": "b", "winner": "B"}],
        comparisons=[Judged([user("q")], ["a", "b"], [2, 1])],
    ),
)
