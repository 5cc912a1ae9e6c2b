"""`imgsearch query`: find photos."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imgsearch.cli import run_query

if TYPE_CHECKING:
    from imgsearch.core.search.query_arguments import QueryArguments


def query(arguments: QueryArguments) -> int:
    """Find photos by words, by a picture, or by a picture plus a change.

    Words need no quotes. Give a picture by its path. `red dress like this.jpg` finds photos like this.jpg, but with a
    red dress. `beach -people` finds beaches without people: put it in quotes, or write beach --not people. Exit code 1
    means that nothing was found. See docs/queries.md for the whole query language.

    Examples:

      imgsearch query sunset over the sea

      imgsearch query beach.jpg

      imgsearch query "red dress like this.jpg" --json | jq -r .path

      imgsearch query "beach -people" --after 2023 --camera fuji --auto-cut

      imgsearch query dog -0 | xargs -0 feh
    """
    return run_query.answer(arguments)
