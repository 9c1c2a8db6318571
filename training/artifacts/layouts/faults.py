"""Why a row of a known layout is left out: a code for decisions, a sentence for people."""

from __future__ import annotations

from training.artifacts.skips import Skip

FAULTS = {
    # conversations
    "not_a_conversation": "the conversation is empty or not a list",
    "message_not_object": "a message is not an object",
    "unknown_role": "a message's role is not system, user or assistant",
    "tool_turn": "a turn calls a tool or holds its result",
    "content_not_text": "a message's content is not text",
    "content_not_only_text": "a message holds something other than text",
    "reasoning_apart": "a message keeps its reasoning apart from its answer",
    "unknown_weight": "a message's weight is not 0 or 1",
    "user_turn_learned": "a user's turn is marked to be learned",
    "part_of_turn_learned": "`train_detail` marks parts of a turn",
    "two_system_prompts": "two different system prompts",
    "late_system": "a system message is not the first",
    "not_from_user": "the conversation does not start with the user",
    "repeated_role": "two turns in a row have the same role",
    "not_to_assistant": "the conversation does not end with the assistant",
    "not_to_user": "the conversation does not end with the user",
    "empty_message": "a message is empty",
    "nothing_learned": "no turn of the assistant is to be learned",
    # columns
    "empty_column": "`{column}` is empty",
    "not_text": "`{column}` is not text",
    "several_texts": "`{column}` holds several texts",
    "answer_not_from_assistant": "`{column}` does not begin with the assistant",
    "prompt_disagrees": "`{column}` and the conversation disagree",
    "bad_answer": "the answer is marked as bad (`{column}`)",
    "more_than_text": "the row needs more than text (`{column}`)",
    "needs_tools": "the row needs tools (`{column}`)",
    "choices": "a question with a list of choices (`{column}`) has more than one rendering",
    "segments": "`segments` hold finished text without roles",
    "empty_document": "the document is empty",
    # records spread over rows
    "instance_not_object": "an instance is not an object",
    "deleted_message": "the message was deleted or rejected in review",
    "no_parent": "the message's parent is not in the data",
    "no_message_id": "the message has no id",
    "repeated_message": "a message with this id stands before it",
    "circular_parents": "the message follows itself by its parents",
    # judgments
    "no_prompt": "no prompt: give `prompt` or `messages`, or whole dialogues as `chosen` and `rejected`",
    "responses_not_list": "responses is not a list",
    "empty_response": "a response is empty",
    "response_not_text": "a response is not text",
    "same_responses": "all responses are the same",
    "different_prompts": "{column} differ before their last turn",
    "lower_score_chosen": "the chosen response has the lower score",
    "not_a_number": "`{column}` is not a number",
    "not_an_index": "`{column}` is not 0 or 1",
    "other_count": "`{column}` does not have one value per response",
    "no_number": "a response has no number in `{column}`",
    "unknown_winner": "`winner` is not model_a, model_b or a tie",
    "no_winner": "not one of `winner_model_a`, `winner_model_b` and `winner_tie` is 1",
    "several_turns": "a battle over several turns has no one prompt",
    "unknown_preference": "`preference` is not 0, 1, 1.5 or 2",
    "preference_of_pairs": "preference does not have 0, 1 or 2 for every pair of predictions",
    "no_post": "`info` holds no post and no article",
    "not_two_summaries": "`summaries` are not two texts",
    "unranked_replies": "the replies to a message have no ranks",
}


def fault(code: str, column: str = "") -> Skip:
    """The `Skip` of a code, with the column (or columns) that it speaks of."""
    return Skip(code, FAULTS[code].format(column=column))
