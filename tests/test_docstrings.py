"""Every public name says what it takes, gives and raises, in numpydoc's sections where there is much to say."""

import ast
import doctest
import enum
import importlib
import inspect
import pkgutil
import re
import textwrap

import pytest
from conftest import ROOT

import bpx
from bpx.data import SOURCES
from bpx.engine import ACTIVATIONS, INITIALIZERS, LOSSES, OPTIMIZERS, SCHEDULES
from bpx.engine.normalization import NORMALIZATIONS
from bpx.engine.transforms import Transform
from bpx.probes import PROBES

MODULES = ("bpx", "bpx.engine", "bpx.data", "bpx.theory", "bpx.probes", "bpx.records", "bpx.testing")
PARTS = (ACTIVATIONS, INITIALIZERS, LOSSES, OPTIMIZERS, SCHEDULES, NORMALIZATIONS, SOURCES, PROBES)
MANY = 3  # parameters or fields; more of them are listed one by one


def public():
    """Every public class and function by the name that a person imports it by, and every registered part."""
    found = {}
    for module in map(importlib.import_module, MODULES):
        found |= {f"{module.__name__}.{name}": getattr(module, name) for name in module.__all__}
    for thing in (thing for registry in PARTS for thing in registry.values()):
        found.setdefault(f"{thing.__module__}.{thing.__qualname__}", thing)
    return {name: thing for name, thing in found.items() if inspect.isclass(thing) or inspect.isfunction(thing)}


def sections(doc):
    """The sections of a docstring: their text by name."""
    parts = re.split(r"^(\w+)\n-+\n", doc, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def listed(section):
    """The names that a section lists, one or several a line."""
    heads = re.findall(r"^(\*{0,2}\w[\w, *]*?)\s*(?::.*)?$", section, flags=re.MULTILINE)
    return {name.strip("* ") for head in heads for name in head.split(",")}


def is_enum(thing):
    return inspect.isclass(thing) and issubclass(thing, enum.Enum)


def raises(thing):
    """Whether the body of a function raises what its caller did wrong."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    return any(isinstance(node, ast.Raise) and node.exc is not None for node in ast.walk(tree))


def complaints(name, thing):
    doc = inspect.cleandoc(thing.__doc__ or "")
    if not doc:
        yield f"{name} has no docstring"
        return
    has = sections(doc)
    parameters = [] if is_enum(thing) else [p for p in inspect.signature(thing).parameters if not p.startswith("_")]
    if len(parameters) > MANY and not re.search(r"(parameters are those of|the rest as in) ``\w+``", doc):
        bases = [sections(inspect.cleandoc(base.__doc__ or "")) for base in getattr(thing, "__mro__", ())] or [has]
        missing = set(parameters) - {
            n for b in bases for key in ("Parameters", "Attributes") for n in listed(b.get(key, ""))
        }
        if missing:
            yield f"{name} does not list {', '.join(sorted(missing))}"
    if not inspect.isfunction(thing):
        return
    told = re.match(r"(Return|Yield|Build)", doc) or "Returns" in has
    if thing.__annotations__.get("return") not in (None, "None") and not told:
        yield f"{name} does not say what it returns"
    if raises(thing) and not ("Raises" in has or re.search(r"[Rr]aises?\s+\w*Error", doc)):
        yield f"{name} does not say what it raises"


@pytest.mark.parametrize("name", public())
def test_every_public_name_says_what_it_takes_gives_and_raises(name):
    assert not list(complaints(name, public()[name]))


SOURCE = re.compile(r"\b[A-Z][A-Za-zé]+( & [A-Z][a-z]+| et al\.|(, [A-Z][\w-]+)* and [\w-]+)? \(?(18|19|20)\d\d\b")
DEFINITIONS = {  # formulas that nobody published: definitions, and what bpx itself counts
    "Linear", "Zeros", "Constant", "LearningRate", "Histograms", "Gains", "GradientCosine", "Coherence",
}  # fmt: skip
THEORY = ("Ensemble", "MeanField", "PhaseDiagram", "critical_sigma_w", "expectation", "mean_field", "pair_expectation",
          "phase_diagram", "predict")  # fmt: skip


def formulas():
    """Every registered part but the data, every public transform, and what theory computes."""
    parts = [part for registry in PARTS if registry is not SOURCES for part in registry.values()]
    own = [t for t in subclasses(Transform) if not t.__name__.startswith("_") and t.__module__.startswith("bpx.")]
    return [*parts, *own, *(getattr(bpx.theory, name) for name in THEORY)]


def subclasses(kind):
    return [each for child in kind.__subclasses__() for each in (child, *subclasses(child))]


@pytest.mark.parametrize("formula", formulas(), ids=lambda f: f"{f.__module__}.{f.__name__}")
def test_every_formula_names_its_source(formula):
    found = SOURCE.search(inspect.cleandoc(formula.__doc__))
    assert bool(found) != (formula.__name__ in DEFINITIONS), "give the paper: authors, year, section"


def wide(a, b, c, d):
    """Return their sum.

    Parameters
    ----------
    a, b : int
        The first two.
    c
        The third.
    """
    if a < 0:
        raise ValueError(a)
    return a + b + c + d


def test_a_name_that_says_less_is_found():
    wide.__annotations__["return"] = "int"
    assert list(complaints("wide", wide)) == ["wide does not list d", "wide does not say what it raises"]
    wide.__doc__ = "Sum; raises ValueError."
    assert list(complaints("wide", wide)) == ["wide does not list a, b, c, d", "wide does not say what it returns"]


def test_every_public_name_has_a_page():
    pages = (ROOT / "docs" / "api.md").read_text() + (ROOT / "docs" / "parts.md").read_text()
    shown = set(re.findall(r"^   (bpx[\w.]*)$", pages, flags=re.MULTILINE))
    assert set(MODULES) <= shown
    modules = {thing for m in MODULES for thing in vars(importlib.import_module(m)).values() if inspect.isclass(thing)}
    for registry in PARTS:
        for thing in registry.values():
            own = f"{thing.__module__}.{thing.__qualname__}"
            assert own in shown or thing in modules or thing in OPTIMIZERS.values(), own
    for transform in Transform.__subclasses__():
        if not transform.__name__.startswith("_") and transform.__module__.startswith("bpx."):
            assert f"{transform.__module__}.{transform.__qualname__}" in shown


def test_examples_in_docstrings_are_so():
    tried = 0
    for module in pkgutil.walk_packages(bpx.__path__, "bpx."):
        path = ROOT.joinpath(*module.name.split("."))
        text = "".join(p.read_text() for p in (path.with_suffix(".py"), path / "__init__.py") if p.exists())
        if ">>>" in text:
            result = doctest.testmod(importlib.import_module(module.name))
            assert result.failed == 0, module.name
            tried += result.attempted
    assert tried >= 3
