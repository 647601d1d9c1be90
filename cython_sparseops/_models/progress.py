"""The progress bar of training: tqdm's if it is installed, otherwise one line per epoch."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from cython_sparseops._models.bag import Progress


def shown(steps: Iterable[Progress], verbose: int, title: str = "") -> Iterator[Progress]:
    """Pass training progress through and show it on stderr.

    Parameters
    ----------
    steps : iterable of Progress
        What ``BagTrainer.fit`` yields.
    verbose : int
        0 shows nothing.
    title : str
        Words in front of the bar.

    Yields
    ------
    Progress
        The same objects.

    Examples
    --------
    >>> list(shown([], verbose=0))
    []
    """
    if not verbose:
        yield from steps
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        yield from _lines(steps, title)
        return
    bar: Any = None
    try:
        for step in steps:
            if bar is None:
                bar = tqdm(
                    total=step.total_examples, desc=title or None, unit="ex", unit_scale=True
                )
            bar.update(step.examples - bar.n)
            bar.set_postfix(nll=f"{step.nll:.3f}", lr=f"{step.lr:.2g}", refresh=False)
            yield step
    finally:
        if bar is not None:
            bar.close()


def shown_bytes(blocks: Iterable[bytes], total: int, verbose: int, title: str) -> Iterator[bytes]:
    """Pass blocks of a file through and show on stderr how much of it they are.

    Parameters
    ----------
    blocks : iterable of bytes
    total : int
        Bytes of the file.
    verbose : int
        0 shows nothing.
    title : str
        Words in front of the bar.

    Yields
    ------
    bytes
        The same objects.

    Examples
    --------
    >>> list(shown_bytes([b"a"], 1, 0, "reading"))
    [b'a']
    """
    if not verbose:
        yield from blocks
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        yield from blocks
        note(f"{title}: {total:,} bytes")
        return
    shape: dict[str, Any] = {"unit": "B", "unit_scale": True, "leave": False, "delay": 0.5}
    with tqdm(total=total, desc=title, **shape) as bar:
        for block in blocks:
            yield block
            bar.update(len(block))


def _lines(steps: Iterable[Progress], title: str) -> Iterator[Progress]:
    epoch = -1
    for step in steps:
        if step.epoch != epoch or step.examples == step.total_examples:
            epoch = step.epoch
            print(
                f"{title or 'training'}: {step.examples}/{step.total_examples} examples, "
                f"nll {step.nll:.3f}",
                file=sys.stderr,
            )
        yield step


def note(message: str) -> None:
    """Tell on stderr what is being done.

    Examples
    --------
    >>> note("trying one tree")
    """
    print(message, file=sys.stderr)
