"""The texts to embed for a query. Imports no numpy: the tower starts to load as soon as they are known."""

from __future__ import annotations

from imgsearch.core.models.phrases import word_list
from imgsearch.core.types import SpaceIdentity

from .grammar import Query
from .options import SearchOptions

# BASIC: the contexts that words are embedded in.
CONTEXTS = 100
# Sentences for a single word, and the words that they do not suit.
SENTENCES = ("{}", "a photo of {}", "a picture of {}")
SENTENCE_WORDS = frozenset(("photo", "photos", "photograph", "photographs", "picture", "pictures", "image", "images"))
# The tokenizer of CLIP's English vocabulary, as a space names it.
ENGLISH_TOKENIZER = "SimpleTokenizer"


def texts_of(query: Query, options: SearchOptions, identity: SpaceIdentity) -> set[str]:
    """The texts to embed for a query; none for a part with weight 0."""
    weight = options.weight_for(query)
    terms = [*query.any_of, *query.all_of, *(query.terms if weight > 0 else ())]
    wanted = [term.text for term in terms if term.text is not None]
    if query.text is not None and weight > 0:
        wanted.append(query.text)
    needed = {variant for text in wanted for variant in variants(text, identity)} | set(query.negatives)
    if query.text is not None and query.images and 0 < weight < 1:
        needed.add(query.text)  # a composer is asked what the words are, which sentences around one of them would hide
    if query.change_from and 0 < weight < 1:
        needed.add(query.change_from)
    if 0 < weight < 1 and options.method_for(query).is_projected:
        needed |= {*word_list("subjects"), *word_list("styles"), *(contexts(query.text) if query.text else ())}
    return needed


def contexts(text: str) -> list[str]:
    """The words with subject words around them (step 4 of BASIC)."""
    subjects = word_list("subjects")
    chosen = [subjects[i * len(subjects) // CONTEXTS] for i in range(CONTEXTS)]
    return [f"{word} {text}" for word in chosen] + [f"{text} {word}" for word in chosen]


def variants(text: str, identity: SpaceIdentity) -> tuple[str, ...]:
    """The texts that are embedded and averaged for words: a single word is put into sentences.

    That improves single words and nothing longer (docs/composition-figures.md). Only for English models: the effect
    of an English sentence around a foreign word is unknown.
    """
    is_english = identity.details.get("tokenizer") == ENGLISH_TOKENIZER
    is_one_word = text.isascii() and text.isalpha() and text.lower() not in SENTENCE_WORDS
    return tuple(sentence.format(text) for sentence in SENTENCES) if is_english and is_one_word else (text,)
