"""Several responses with ranks or ratings."""

from __future__ import annotations

from tests.support.data_sets.data_set import DataSet, Judged, assistant, user

DATA_SETS: tuple[DataSet, ...] = (
    DataSet(
        "UltraFeedback",
        {"comparisons": "list of judged responses", "prompts": "prompt"},
        [
            {
                "source": "s",
                "instruction": "Name a metal.",
                "models": ["a", "b", "c"],
                "completions": [
                    {
                        "model": "a",
                        "response": "Iron.",
                        "overall_score": 8.0,
                        "fine-grained_score": 4.0,
                        "annotations": {"helpfulness": {"Rating": "5"}},
                    },
                    {
                        "model": "b",
                        "response": "Wood.",
                        "overall_score": 2.0,
                        "fine-grained_score": 5.0,
                        "annotations": {"helpfulness": {"Rating": "1"}},
                    },
                    {
                        "model": "c",
                        "response": "Gold.",
                        "overall_score": 8.0,
                        "fine-grained_score": 4.5,
                        "annotations": {"helpfulness": {"Rating": "4"}},
                    },
                ],
                "correct_answers": ["None"],
            },
            {
                "instruction": "Name a gas.",
                "completions": [
                    {"response": "Stone.", "annotations": {"truth": {"Rating": "1"}, "help": {"Rating": "2"}}},
                    {"response": "Neon.", "annotations": {"truth": {"Rating": "5"}, "help": {"Rating": "4"}}},
                ],
            },
            {
                "instruction": "Name an acid.",
                "completions": [{"response": "A", "overall_score": 3.0}, {"response": "B", "overall_score": None}],
            },
        ],
        comparisons=[
            Judged([user("Name a metal.")], ["Iron.", "Wood.", "Gold."], [1, 3, 1], derived="ratings"),
            Judged([user("Name a gas.")], ["Stone.", "Neon."], [2, 1], derived="ratings"),
        ],
        prompts=[[user("Name a metal.")], [user("Name a gas.")], [user("Name an acid.")]],
        skipped={"comparisons": {"a response has no number in `overall_score`": 1}},
        ignored={"comparisons": {"source", "models", "correct_answers"}},
    ),
    DataSet(
        "Nectar",
        {"comparisons": "list of judged responses", "prompts": "prompt"},
        [
            {
                "prompt": "\n\nHuman: Name a tree.\n\nAssistant: ",
                "answers": [
                    {"answer": f"Answer {place}", "model": "m", "rank": float(place)} for place in (3, 1, 2, 4, 7, 5, 6)
                ],
                "turns": 1,
                "num_responses": 7,
                "source": ["s"],
                "good_natured": True,
            }
        ],
        comparisons=[
            Judged(
                [user("Name a tree.")], [f"Answer {place}" for place in (3, 1, 2, 4, 7, 5, 6)], [3, 1, 2, 4, 7, 5, 6]
            )
        ],
        prompts=[[user("Name a tree.")]],
        ignored={"comparisons": {"turns", "num_responses", "source", "good_natured"}},
    ),
    DataSet(
        "HelpSteer2",
        {"comparisons": "responses and ratings", "demonstrations": "prompt and completion"},
        [
            {"prompt": "Name a fish.", "response": "Cod.", "helpfulness": 4, "correctness": 4, "verbosity": 1},
            {"prompt": "Name a fish.", "response": "A dog.", "helpfulness": 0, "correctness": 0, "verbosity": 1},
            {
                "prompt": "Hi\n<extra_id_1>Assistant\nHello.\n<extra_id_1>User\nName a bee.",
                "response": "Maya.",
                "helpfulness": 3,
                "correctness": 4,
                "verbosity": 1,
            },
            {
                "prompt": "Hi\n<extra_id_1>Assistant\nHello.\n<extra_id_1>User\nName a bee.",
                "response": "Willi.",
                "helpfulness": 3,
                "correctness": 2,
                "verbosity": 1,
            },
        ],
        [
            [user("Name a fish."), assistant("Cod.")],
            [user("Name a fish."), assistant("A dog.")],
            [user("Hi"), assistant("Hello."), user("Name a bee."), assistant("Maya.")],
            [user("Hi"), assistant("Hello."), user("Name a bee."), assistant("Willi.")],
        ],
        [
            Judged([user("Name a fish.")], ["Cod.", "A dog."], [1, 2], derived="ratings"),
            Judged(
                [user("Hi"), assistant("Hello."), user("Name a bee.")], ["Maya.", "Willi."], [1, 1], derived="ratings"
            ),
        ],
        ignored={"comparisons": {"correctness", "verbosity"}},
    ),
    DataSet(
        "distilabel",
        {"comparisons": "responses and ratings"},
        [{"instruction": "q", "generations": ["a", "b", "c"], "ratings": [3, 5, 3], "rationales": ["", "", ""]}],
        comparisons=[Judged([user("q")], ["a", "b", "c"], [2, 1, 2], derived="ratings")],
        ignored={"comparisons": {"rationales"}},
    ),
    DataSet(
        "stack exchange",
        {"comparisons": "list of judged responses"},
        [
            {
                "qid": 4,
                "question": "q",
                "answers": [
                    {"answer_id": 7, "text": "a", "pm_score": 2, "selected": False},
                    {"answer_id": 9, "text": "b", "pm_score": 5, "selected": True},
                ],
            }
        ],
        comparisons=[Judged([user("q")], ["a", "b"], [2, 1], derived="ratings")],
    ),
    DataSet(
        "KTO as comparisons",
        {"comparisons": "responses and ratings"},
        [
            {"prompt": "q", "completion": "bad", "label": False},
            {"prompt": "other", "completion": "alone", "label": True},
            {"prompt": "q", "completion": "good", "label": True},
        ],
        comparisons=[Judged([user("q")], ["bad", "good"], [2, 1], derived="ratings")],
        skipped={"comparisons": {"fewer than two responses": 1}},
    ),
    DataSet(
        "FG-QA",
        {"comparisons": "predictions", "prompts": "prompt"},
        [
            {
                "question": "q",
                "passages": [["Title", "Title\n\nFirst. ", "Second."]],
                "gold": "g",
                "prediction 1": "a",
                "prediction 2": "b",
                "prediction 3": "c",
                "preference": [1, 2, 0],
            }
        ],
        comparisons=[
            Judged([user("q\n\nTitle\n\nFirst. Second.")], ["a", "b", "c"], pairs=[(0, 1, 1), (0, 2, -1), (1, 2, 0)])
        ],
        ignored={"comparisons": {"gold"}},
    ),
    DataSet(
        "our rows",
        {"comparisons": "comparison"},
        [
            {
                "id": "c1",
                "messages": [user("q")],
                "responses": [{"text": "a"}, {"text": "b"}, {"text": "c"}],
                "ranks": [1.0, 2.0, 2.0],
                "labeler": "l1",
                "split": "train",
            },
            {"prompt": "q", "responses": ["a", "b"], "pairs": [[0, 1, 0]]},
        ],
        comparisons=[
            Judged([user("q")], ["a", "b", "c"], [1, 2, 2], labeler="l1"),
            Judged([user("q")], ["a", "b"], pairs=[(0, 1, 0)]),
        ],
        ignored={"comparisons": {"split"}},
    ),
    DataSet(
        "responses without judgment",
        {"comparisons": "responses"},
        [{"prompt": "q", "responses": ["a", "b"]}, {"prompt": "q", "responses": ["a", "b"], "ranks": [1, 2]}],
        comparisons=[Judged([user("q")], ["a", "b"], [1, 2])],
        skipped={"comparisons": {"give either ranks or pairs": 1}},
    ),
    DataSet(
        "messages with scores",
        {"comparisons": "responses and ratings"},
        [
            {"prompt": [user("q")], "responses": [assistant("a"), assistant("b")], "scores": [0.1, 0.9]},
            {"prompt": "q", "completions": '["a", "b"]', "scores": "[2, 1]"},
            {"prompt": "q", "responses": ["a", "b"], "scores": [1.0]},
            {"prompt": "q", "responses": ["a", "b"], "scores": [1.0, "x"]},
            {"prompt": "q", "generations": ["a", "b", "c"], "ranks": [0, 2, 1]},
        ],
        comparisons=[
            Judged([user("q")], ["a", "b"], [2, 1], derived="ratings"),
            Judged([user("q")], ["a", "b"], [1, 2], derived="ratings"),
            Judged([user("q")], ["a", "b", "c"], [1, 3, 2]),
        ],
        skipped={
            "comparisons": {
                "`scores` does not have one value per response": 1,
                "a response has no number in `scores`": 1,
            }
        },
    ),
)
