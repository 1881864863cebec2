"""Compare this library with a folder of conformance vectors, values and gradients.

    python tests/conformance/run.py DIR [--only METHOD …]

The folder holds `manifest.json` and one safetensors file a case. One line a case, a table by method at the
end; exit code 1 if any case differs or has no counterpart here.
"""

import argparse
import importlib.util
import json
import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

HERE = pathlib.Path(__file__).resolve().parent

SECOND_OPINIONS = ("loss_paper", "loss_reference", "weights_reference", "shared_grad_reference")
"""Expected tensors that need not be given: other scalings, and results of less accurate solvers."""


def methods() -> Mapping[str, Any]:
    """Method -> adapter, from the folder `methods`, which is found wherever this file is run from."""
    if "conformance_methods" not in sys.modules:
        folder = HERE / "methods"
        spec = importlib.util.spec_from_file_location(
            "conformance_methods", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None
        assert spec.loader is not None
        package = importlib.util.module_from_spec(spec)
        sys.modules["conformance_methods"] = package
        spec.loader.exec_module(package)
    return sys.modules["conformance_methods"].METHODS


def cases(folder: pathlib.Path, only: list[str] | None = None) -> list[dict[str, Any]]:
    """The cases of a folder, in its order; of the named methods if any are named."""
    found = json.loads((folder / "manifest.json").read_text())["cases"]
    return [case for case in found if not only or case["method"] in only]


def laid_out(x: Tensor, layout: str | None) -> Tensor:
    """The same numbers in another memory layout."""
    if layout is None:
        return x
    if layout == "channels_last":
        return x.contiguous(memory_format=torch.channels_last)
    if layout == "transposed":
        return x.t().contiguous().t()
    if layout == "strided_slice":
        wide = x.new_zeros(*x.shape[:-1], 2 * x.shape[-1])
        wide[..., ::2] = x
        return wide[..., ::2]
    raise ValueError(f"unknown layout {layout!r}")


def check(folder: pathlib.Path, case: Mapping[str, Any]) -> Iterator[str]:
    """Run one case. Yields a sentence for everything that is not as expected."""
    stored, about = load_file(folder / case["file"]), case["tensors"]
    tensors = {}
    for name, x in stored.items():
        if not name.startswith("expect:"):
            tensors[name] = laid_out(x, about[name].get("feed_as"))
            role = name.partition(":")[2]
            if f"expect:grad:{role}" in stored:
                tensors[name] = tensors[name].detach().requires_grad_()
    torch.manual_seed(0)
    got = methods()[case["method"]](tensors, case["hyperparameters"])
    leaves = {name.partition(":")[2]: x for name, x in tensors.items() if x.requires_grad}
    missing = [name for name in leaves if f"grad:{name}" not in got]
    if missing:
        gradients = torch.autograd.grad(
            got["loss"], [leaves[name] for name in missing], retain_graph=True, materialize_grads=True
        )
        got |= {f"grad:{name}": gradient for name, gradient in zip(missing, gradients, strict=True)}
    for name, expected in stored.items():
        kind, _, role = name.partition(":")
        if kind != "expect" or (role in SECOND_OPINIONS and role not in got):
            continue
        if role not in got:
            yield f"{role} is not given"
            continue
        yield from difference(role, got[role].detach(), expected, about[name])


def difference(name: str, got: Tensor, expected: Tensor, about: Mapping[str, Any]) -> Iterator[str]:
    """A sentence if one tensor is outside the tolerance of its manifest entry."""
    if got.shape != expected.shape:
        yield f"{name} has shape {list(got.shape)}, expected {list(expected.shape)}"
        return
    rtol, atol = (0.0, 0.0) if about.get("exact") else (about.get("rtol", 0.0), about.get("atol", 0.0))
    off = (got.double() - expected.double()).abs()
    if not bool((off <= atol + rtol * expected.double().abs()).all()):  # also where something is not a number
        yield f"{name} differs by {off.max().item():.3g} of {expected.double().abs().max().item():.3g}"


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--only", nargs="+", metavar="METHOD")
    given = parser.parse_args(arguments)
    table: dict[str, dict[str, int]] = {}
    for case in cases(given.folder, given.only):
        if case["method"] not in methods():
            verdict, words = "unknown", "no such method"
        else:
            try:
                wrong = list(check(given.folder, case))
            except Exception as error:  # one broken case must not hide the others
                wrong = [f"{type(error).__name__}: {error}"]
            verdict, words = ("differs", "; ".join(wrong)) if wrong else ("ok", "ok")
        print(f"{case['name']}: {words}")
        counts = table.setdefault(case["method"], {"ok": 0, "differs": 0, "unknown": 0})
        counts[verdict] += 1
    print(f"\n{'method':<28}{'ok':>6}{'differs':>9}{'unknown':>9}")
    for method, counts in table.items():
        print(f"{method:<28}{counts['ok']:>6}{counts['differs']:>9}{counts['unknown']:>9}")
    total = {key: sum(counts[key] for counts in table.values()) for key in ("ok", "differs", "unknown")}
    print(f"{'all':<28}{total['ok']:>6}{total['differs']:>9}{total['unknown']:>9}")
    return int(not table or total["differs"] + total["unknown"] > 0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
