"""A query as it was typed, option by option, and what it asks for.

The command line builds one, a running `imgsearch serve` is sent the same one, and a library caller may make one too.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from imgsearch.core.errors import UsageError

from .choices import GroupBy, Has, Orientation, SearchIn, SortBy

if TYPE_CHECKING:
    from .filters import Filters
    from .grammar import Query
    from .options import SearchOptions, Strategy

Texts = tuple[str, ...]


class QueryArguments(NamedTuple):
    """The parameters of `imgsearch query`, by the names they have there, with its defaults.

    No dataclass: importing `dataclasses` takes 8 ms, which a warm answer has not got.
    """

    words: Texts = ()
    image: Texts = ()
    text: str | None = None
    negatives: Texts = ()
    change_from: str | None = None
    change_to: str | None = None
    more_like: Texts = ()
    less_like: Texts = ()
    any_of: Texts = ()
    all_of: Texts = ()
    natural: bool = False
    verbatim: bool = False
    limit: int = 10
    min_score: float | None = None
    min_z: float | None = None
    auto_cut: bool = False
    after: str | None = None
    before: str | None = None
    month: Texts = ()
    on: Texts = ()
    camera: Texts = ()
    lens: Texts = ()
    near: str | None = None
    place: Texts = ()
    rating: str | None = None
    keyword: Texts = ()
    under: Texts = ()
    name: Texts = ()
    glob: Texts = ()
    ext: Texts = ()
    min_size: str | None = None
    orientation: tuple[Orientation, ...] = ()
    has: tuple[Has, ...] = ()
    text_contains: Texts = ()
    root: Texts = ()
    sort: SortBy = "score"
    reverse: bool = False
    group: GroupBy | None = None
    diverse: float = 0.0
    modality: SearchIn = "image"
    compose: str | None = None
    weight: float | None = None
    exact: bool | None = None
    as_json: bool = False
    paths: bool = False
    print0: bool = False
    metadata: bool = False
    fields: str | None = None
    html: str | None = None
    opens: bool = False
    preview: bool = False
    explain: bool = False
    include_reference: bool = False
    include_offline: bool = False
    no_history: bool = False
    no_server: bool = False
    device: str = "auto"
    offline: bool = False
    quiet: bool = False
    verbose: bool = False
    index: str | None = None  # type: ignore[assignment]  # hides tuple.index, which has no use here

    @property
    def has_many(self) -> bool:
        """Whether the queries are the lines of standard input."""
        return self.words == ("-",)

    @property
    def has_parts(self) -> bool:
        """Whether options add to the words: pictures to go towards, words to avoid ..."""
        parts = self.negatives + self.more_like + self.less_like + self.any_of + self.all_of
        return bool(parts) or self.change_from is not None or self.change_to is not None

    @property
    def strategy(self) -> Strategy:
        return "auto" if self.exact is None else "exact" if self.exact else "ann"

    def record(self) -> dict[str, Any]:
        """For JSON: names and values, lists for tuples."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self._asdict().items()}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> QueryArguments:
        """What `record` gave, after JSON. Raises ValueError for a name or a type that is not of these."""
        hints = get_type_hints(cls)
        if record.keys() != hints.keys():
            raise ValueError(f"not the arguments of a query: {sorted(record.keys() ^ hints.keys())}")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in record.items()
        }
        for name, value in values.items():
            if not _is(value, hints[name]):
                raise ValueError(f"{name} is {value!r}, not {hints[name]}")
        return cls(**values)

    def query(self, directory: str | None = None) -> Query:
        """The one query that words and options make together; relative paths are relative to `directory`.

        Raises UsageError and QueryError, as `grammar.parse` and `grammar.combine` do.
        """
        from . import grammar

        if self.words and self.text is not None:
            raise UsageError("words given twice: as arguments and with --text", hint="give them once")
        if self.words:
            return self._combined(self._parsed(" ".join(self.words), directory), self.image, directory)
        if self.text is not None or (self.image and not self.has_parts):
            return self._combined(grammar.explicit(self.text, self.image, directory=directory), (), directory)
        if not (self.image or self.has_parts):
            if filters := self.filters():
                return grammar.listing(filters.options())
            raise UsageError(
                "nothing to search for", hint='give some words: imgsearch query "sunset over the sea", or see --help'
            )
        return self._combined(None, self.image, directory)

    def query_of_line(self, line: str) -> Query:
        """One query of many, with what the options add to each. Raises as `query` does."""
        return self._combined(self._parsed(line, None), (), None)

    def refuse_for_lines(self) -> None:
        """Raises UsageError for options that make a single query: many queries share only what narrows each."""
        if self.image or self.text is not None or self.change_from is not None or self.change_to is not None:
            raise UsageError(
                "`-` cannot be combined with --image, --text, --from and --to",
                hint="put the pictures into the queries on standard input",
            )
        if self.any_of or self.all_of:
            raise UsageError("`-` cannot be combined with --any and --all", hint="run such queries one at a time")

    def options(self, *, statistics: bool) -> SearchOptions:
        """How the query is to be answered. Raises UsageError for numbers that mean nothing."""
        from .options import SearchOptions

        return SearchOptions(
            limit=self.limit,
            min_score=self.min_score,
            min_z=self.min_z,
            auto_cut=self.auto_cut,
            filters=self.filters(),
            modality=self.modality,
            method=self.compose,
            weight=self.weight,
            sort=self.sort,
            reverse=self.reverse,
            group=self.group,
            diverse=self.diverse,
            strategy=self.strategy,
            include_reference=self.include_reference,
            include_offline=self.include_offline,
            statistics=statistics,
        )

    def filters(self) -> Filters:
        from .filters import Filters

        return Filters(**{name: getattr(self, name) for name in Filters.__slots__})

    def _parsed(self, typed: str, directory: str | None) -> Query:
        from . import grammar

        return grammar.parse(typed, directory=directory, natural=self.natural, verbatim=self.verbatim)

    def _combined(self, base: Query | None, images: Texts, directory: str | None) -> Query:
        from . import grammar

        if base is not None and not (images or self.has_parts):
            return base
        return grammar.combine(
            base,
            images=images,
            negatives=self.negatives,
            change_from=self.change_from,
            change_to=self.change_to,
            more_like=self.more_like,
            less_like=self.less_like,
            any_of=self.any_of,
            all_of=self.all_of,
            directory=directory,
            verbatim=self.verbatim,
        )


def _is(value: object, hint: Any) -> bool:
    """Whether the value has exactly this type; a whole number is a float too, and True is no number."""
    if get_origin(hint) in (Union, types.UnionType):
        return any(_is(value, each) for each in get_args(hint))
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_is(each, get_args(hint)[0]) for each in value)
    return type(value) is hint or (hint is float and type(value) is int)
