"""Set phrases in a plain form, so that the rest of the judge meets each meaning in few shapes."""

from __future__ import annotations

import re

# Contractions, as the tokens hold them.
_SHORT = {
    "don't": "do not", "doesn't": "does not", "didn't": "did not", "can't": "can not", "cannot": "can not",
    "couldn't": "could not", "won't": "will not", "wouldn't": "would not", "shouldn't": "should not",
    "mustn't": "must not", "isn't": "is not", "aren't": "are not", "wasn't": "was not", "weren't": "were not",
    "haven't": "have not", "hasn't": "has not", "hadn't": "had not", "i'm": "i am", "it's": "it is",
    "that's": "that is", "what's": "what is", "who's": "who is", "where's": "where is", "there's": "there is",
    "here's": "here is", "he's": "he is", "she's": "she is", "you're": "you are", "we're": "we are",
    "they're": "they are", "i'll": "i will", "you'll": "you will", "we'll": "we will", "i'd": "i would",
    "i've": "i have", "you've": "you have", "let's": "let us", "nope": "no", "yeah": "yes", "yep": "yes",
}  # fmt: skip

# Phrase -> plain form. The longest one that fits is taken. What only sounds negative loses its negative word, what is
# negative without one gains it.
_PLAIN = {
    # Sounds negative, but is not.
    "do not worry": "", "do not hesitate to": "please", "do not hesitate": "", "do not forget that": "surely",
    "do not forget to": "please", "do not forget": "please", "never forget to": "please",
    "never forget that": "surely", "do not be afraid": "", "do not be shy": "", "do not mind": "like",
    "if you do not mind": "please", "would not mind": "would like", "do not wait": "now", "never wait": "now",
    "do not "
    "stop": "please", "never stop": "please", "never hesitate to": "please", "can not wait to": "will gladly",
    "can not wait": "will gladly", "could not wait to": "would gladly", "can not help but": "must",
    "no problem": "surely", "no doubt": "surely", "there is no doubt that": "surely", "without a doubt": "surely",
    "without doubt": "surely", "not only": "", "not just": "", "not merely": "", "means not": "means",
    "meaning not": "meaning", "why not": "please", "nobody but": "only",
    "everybody but not": "everybody without", "everywhere but not": "everywhere without", "anywhere but not": "not",
    "everybody but": "everybody without", "everyone but": "everybody without", "all but": "all without",
    "anywhere but": "anywhere without", "everywhere but": "everywhere without", "anyone but": "anyone without",
    "anybody but": "anybody without", "nobody except": "only",
    "no one but": "only", "no one except": "only", "no one other than": "only", "nobody other than": "only",
    "nothing but": "only", "none but": "only", "none other than": "only", "nothing else than": "only",
    "you can not "
    "find": "you "
        "lost", "you could not find": "you lost", "nowhere but": "only", "no less than": "",
    "no sooner": "soon", "is not wrong to": "is fine to",
    "nothing is wrong with": "it is fine to", "nothing wrong with": "fine to", "do not you think": "you think",
    # Is negative, without such a word.
    "anything but": "not", "far from being": "not", "nothing like": "not", "say no": "refuse",
    "say yes": "agree", "by no means": "not",
    "in no way": "not", "not at all": "not", "no longer": "never", "no more": "never",
    "instead of": "without", "rather than": "without", "as opposed to": "without", "least of all": "without",
    "no one": "nobody", "no person": "nobody", "no human": "nobody", "no body": "nobody", "nobody else": "nobody",
    "not a single": "no", "not one": "no", "too good to": "not",
    # Fixed expressions of one meaning.
    "good day": "hello", "good morning": "hello", "good evening": "hello", "good afternoon": "hello",
    "of course": "surely", "at all": "", "as well": "too",
    "as well as": "and", "next to": "near", "in front of": "before", "close to": "near", "because of": "for",
    "due to": "for", "thanks to": "for", "out of": "from", "such as": "like", "how about": "maybe",
    "what about": "maybe", "have to": "must", "has to": "must", "had to": "must", "ought to": "should",
    "going to": "will", "used to": "did", "would like to": "want to",
    "a lot of": "many", "lots of": "many", "a lot": "much", "so much": "much", "very much": "much",
    "each other": "others", "one another": "others", "more than one": "many",
    "one day": "once", "one morning": "once", "one evening": "once", "one night": "once", "one time": "once",
    "once upon a time": "once", "that day": "then", "the next day": "then", "next day": "then",
    "next morning": "then", "the same day": "then", "every day": "always", "all day": "always",
    "this morning": "today", "last night": "yesterday", "last year": "before", "last week": "before",
    "long ago": "before", "next week": "soon", "next year": "soon", "right now": "now", "at once": "now",
    "a few": "some", "a little": "little", "a bit": "little", "in short": "", "in fact": "actually",
    "in truth": "actually", "in reality": "actually", "the truth is that": "actually", "for example": "",
    "a kind of": "a", "a sort of": "a", "how should i know": "i do not know", "how can i know": "i do not know",
    "how could i know": "i do not know", "how can anybody know": "nobody knows",
    "so that": "that", "even though": "though", "even if": "if", "as if": "that", "or else": "or",
}  # fmt: skip
_LONGEST = max(len(phrase.split()) for phrase in _PLAIN)
_FIRST: dict[str, list[tuple[str, ...]]] = {}
for _phrase in sorted(_PLAIN, key=lambda p: -len(p.split())):
    _FIRST.setdefault(_phrase.split()[0], []).append(tuple(_phrase.split()))
_REPLACEMENT = {tuple(phrase.split()): tuple(plain.split()) for phrase, plain in _PLAIN.items()}
_TRIGGERS = frozenset(_FIRST)


def normalized(tokens: tuple[str, ...]) -> tuple[str, ...]:
    """The tokens without contractions, each set phrase in its plain form."""
    if any("'" in token or token in _SHORT for token in tokens):
        tokens = tuple(re.split(r"\s+", " ".join(_SHORT.get(token, token) for token in tokens)))
    if _TRIGGERS.isdisjoint(tokens):
        return tokens
    plain: list[str] = []
    at = 0
    while at < len(tokens):
        for phrase in _FIRST.get(tokens[at], ()):
            if tokens[at : at + len(phrase)] == phrase:
                plain += _REPLACEMENT[phrase]
                at += len(phrase)
                break
        else:
            plain.append(tokens[at])
            at += 1
    return tuple(plain)
