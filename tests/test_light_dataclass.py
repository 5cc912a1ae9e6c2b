"""Our `dataclass` does what the standard library's does, as far as it goes."""

from __future__ import annotations

import ast
import copy
import dataclasses
import importlib
import pickle
from pathlib import Path

import pytest

from imgsearch import core
from imgsearch.core import light_dataclass


def declared(dataclass, **how):
    @dataclass(slots=True, **how)
    class Scene:
        """A scene of a video."""

        path: str
        at: float = 0.0
        tags: dict[str, int] = dataclasses.field(default_factory=dict)
        note: str | None = dataclasses.field(default=None, compare=False)

        @property
        def has_note(self):
            return self.note is not None

        def __bool__(self):
            return self.at > 0

    return Scene


Scene = declared(light_dataclass.dataclass, frozen=True)
SAME = declared(dataclasses.dataclass, frozen=True)
Mutable = declared(light_dataclass.dataclass)
MUTABLE = declared(dataclasses.dataclass)
BOTH = pytest.mark.parametrize(
    "scene", [Scene, SAME, Mutable, MUTABLE], ids=["frozen", "std", "mutable", "std mutable"]
)


@BOTH
def test_fields_defaults_and_methods(scene):
    first, second = scene("a.mp4"), scene("a.mp4", note="x", at=2.5)
    assert (first.path, first.at, first.tags, first.note, bool(first)) == ("a.mp4", 0.0, {}, None, False)
    assert (second.at, second.note, second.has_note, bool(second)) == (2.5, "x", True, True)
    assert first.tags is not second.tags
    assert repr(second).endswith("Scene(path='a.mp4', at=2.5, tags={}, note='x')")
    assert scene.__doc__ == "A scene of a video." and scene.__match_args__ == ("path", "at", "tags", "note")
    assert not hasattr(first, "__dict__")


@BOTH
def test_equality_compares_fields_and_the_class(scene):
    assert scene("a", note="x") == scene("a", note="y") != scene("b")
    assert scene("a") != ("a", 0.0, {}, None)
    assert scene("a") != next(other for other in (Scene, SAME) if other is not scene)("a")


@pytest.mark.parametrize("scene", [Scene, SAME])
def test_a_frozen_object_can_be_hashed_and_not_changed(scene):
    assert len({scene("a", tags=()), scene("a", tags=(), note="x"), scene("b", tags=())}) == 2
    one = scene("a")
    for change in (lambda: setattr(one, "at", 1), lambda: setattr(one, "nosuch", 1), lambda: delattr(one, "at")):
        with pytest.raises(
            (dataclasses.FrozenInstanceError, TypeError)
        ):  # TypeError: the standard library's, for slots
            change()
    assert one.at == 0.0


@pytest.mark.parametrize("scene", [Mutable, MUTABLE])
def test_another_object_can_be_changed_and_not_hashed(scene):
    one = scene("a")
    one.at = 3
    assert one == scene("a", 3)
    with pytest.raises(AttributeError):
        one.nosuch = 1
    with pytest.raises(TypeError):
        hash(one)


@BOTH
@pytest.mark.parametrize(
    ("values", "named"),
    [((), {}), ((), {"at": 1}), (("a", 1, {}, "", 5), {}), (("a",), {"path": "b"}), (("a",), {"x": 1})],
)
def test_wrong_arguments_are_refused(scene, values, named):
    with pytest.raises(TypeError):
        scene(*values, **named)


@BOTH
@pytest.mark.parametrize("replace", [dataclasses.replace, light_dataclass.replace])
def test_functions_of_the_standard_library_work(scene, replace):
    one = scene("a", 1.0, {"x": 1}, "n")
    assert replace(one, at=2.0) == scene("a", 2.0, {"x": 1})
    assert replace(one, at=2.0).note == "n"
    with pytest.raises(TypeError):
        replace(one, nosuch=1)
    assert dataclasses.is_dataclass(scene) and dataclasses.is_dataclass(one)
    assert dataclasses.asdict(one) == {"path": "a", "at": 1.0, "tags": {"x": 1}, "note": "n"}
    assert dataclasses.astuple(one) == ("a", 1.0, {"x": 1}, "n")
    assert [field.name for field in dataclasses.fields(one)] == ["path", "at", "tags", "note"]
    assert copy.copy(one) == copy.deepcopy(one) == one
    match one:
        case scene("a", at=at):
            assert at == 1.0


def test_objects_survive_pickling():
    from imgsearch.core.types import CarriedText, Facts

    facts = Facts("JPEG", 3, 2, texts=(CarriedText("a", "exif:b"),))
    assert pickle.loads(pickle.dumps(facts)) == facts


@pytest.mark.parametrize(("bases", "how"), [((), {"order": True}), ((Scene,), {}), ((SAME,), {})])
def test_what_it_cannot_do_is_refused(bases, how):
    with pytest.raises(TypeError):

        @light_dataclass.dataclass(frozen=True, slots=True, **how)
        class _Take(*bases):
            number: int = 0


def test_a_class_with_post_init_is_refused():
    with pytest.raises(TypeError, match="__post_init__"):

        @light_dataclass.dataclass(frozen=True, slots=True)
        class _Take:
            number: int

            def __post_init__(self):
                pass


TOP = Path(core.__path__[0])
USERS = [p for p in sorted(TOP.rglob("*.py")) if "light_dataclass import dataclass" in p.read_text()]


@pytest.mark.parametrize("path", USERS, ids=lambda path: path.stem)
def test_every_class_could_be_one_of_the_standard_library(path):
    """Its fields are in an order that the standard library accepts, and their defaults are its."""
    module = importlib.import_module(".".join(["imgsearch.core", *path.relative_to(TOP).with_suffix("").parts]))
    named = [
        node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef) and node.decorator_list
    ]
    assert named
    for name in named:
        cls = getattr(module, name)
        if dataclasses.is_dataclass(cls):
            assert [field.name for field in dataclasses.fields(cls)] == list(cls.__match_args__)
