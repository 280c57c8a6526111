"""`make_unlearned`: a pair made by a method of unlearning. `make_twins`: a whole family of models."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ckdiff.progress import Listener
    from ckdiff.unlearn.recipe import UnlearnSpec
    from ckdiff.unlearn.twins import Family
    from ckdiff.unlearn.unlearn import Made


def make_unlearned(spec: UnlearnSpec, listener: Listener | None = None, resume: bool = False) -> Made:
    """Make a checkpoint that has unlearned something, and measure what it still answers as it was saved.

    Args:
        spec: what to unlearn, and how.
        listener: told of progress, asked whether to stop.
        resume: go on with an interrupted training to the same output.

    Raises:
        CkdiffError: what was given does not allow it; nothing has been written.
        DivergedError: the loss was no longer finite before anything was measured.
        UnlearningStopped: the listener asked for it; what was done is kept for `resume`.
    """
    from ckdiff.unlearn.inputs import read_inputs
    from ckdiff.unlearn.saving import check_output
    from ckdiff.unlearn.session import read_made
    from ckdiff.unlearn.unlearn import make
    from ckdiff.weights.opening import open_checkpoint

    spec.recipe.check()
    if read_made(spec.output) is None:
        check_output(spec.output)
    return make(open_checkpoint(spec.base), read_inputs(spec), spec.recipe, spec.output, listener, resume)


def make_twins(spec: UnlearnSpec, listener: Listener | None = None, resume: bool = False) -> Family:
    """Make a model that knows some facts, models that never knew them, and one that has unlearned them.

    Args:
        spec: the base; the facts to forget and to keep, or how many people are invented; how they are unlearned.
        listener: told of progress, asked whether to stop.
        resume: keep the members that are there already.

    Raises:
        CkdiffError: what was given does not allow it.
        UnlearningStopped: the listener asked for it; whole members are kept for `resume`.
    """
    from ckdiff.progress import Listener
    from ckdiff.unlearn.twins import make_family

    return make_family(spec, listener or Listener(), resume)
