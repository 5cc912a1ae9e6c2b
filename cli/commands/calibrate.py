"""`imgsearch calibrate`: recompute the statistics of a collection."""

from __future__ import annotations

from imgsearch.cli.output import render


def calibrate(
    *, hubness: bool | None, wait: bool, as_json: bool, device: str, offline: bool, quiet: bool, index: str | None
) -> int:
    """Recompute the statistics of the collection that ranking uses. `index` does this as the collection changes.

    The statistics are the mean picture, the scores of ordinary phrases, and the lowest usual scores. `--compose and`,
    `--auto-cut`, `--more-like` and searches of texts use them. `index` recomputes them when the collection has grown or
    shrunk by more than a tenth. Some photos match any query; --hubness corrects that. It helps some models and harms
    others, so compare with `imgsearch eval`.

    Example:

      imgsearch calibrate --hubness
    """
    from imgsearch.cli.loading import embedder_of, open_to_write
    from imgsearch.core.errors import UsageError
    from imgsearch.core.indexing.indexer import live_pictures, renew_calibration
    from imgsearch.core.models.phrases import neutral_vectors
    from imgsearch.core.search.encoding import correct_hubness, corrects_hubness

    with open_to_write(index, wait=wait) as store:
        space = store.space_to_search()
        live = live_pictures(store, space)
        if not live:
            raise UsageError("no photos to measure", hint="index some first: imgsearch index FOLDER")
        load = embedder_of(space, device=device, offline=offline)
        measured = renew_calibration(store, space, live, lambda: neutral_vectors(space.identity, load))
        if hubness is not None:
            correct_hubness(store, space, is_on=hubness)
        is_on = corrects_hubness(store, space)
        store.save_slots(space)
    record = {
        "model": space.identity.name,
        "version": measured.version,
        "pictures": measured.pictures,
        "phrases": len(measured.phrases),
        "low_image": round(measured.low_image, 6),
        "low_text": round(measured.low_text, 6),
        "hubness": is_on,
    }
    photos, phrases = render.count(measured.pictures, "picture"), render.count(len(measured.phrases), "phrase")
    state = "on" if is_on else "off"
    sentence = f"measured {photos} and {phrases} with {space.identity.name}; hubness correction {state}"
    render.report(record, sentence, as_json=as_json)
    return 0
