"""Whoever else writes the runtime's folder, and whoever reads it, each in a thread of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from jfe_cni.cni import chain, network_folder
from tests.cni.installation import Installation


class Worker:
    """Does its work again and again, every `period` seconds, until the end of the block. What it raises is raised
    there."""

    def __init__(self, period: float) -> None:
        self._period = period
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._fault: Exception | None = None

    def work(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(30)
        if self._fault is not None:
            raise self._fault

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self.work()
            except Exception as error:  # noqa: BLE001 - raised again at the end of the block
                self._fault = error
                return
            self._over.wait(self._period)


class Rival(Worker):
    """Writes its own network anew, and counts in `generation` how often."""

    def __init__(self, path: Path, document: dict[str, Any], *, in_place: bool = False, period: float = 0.05) -> None:
        super().__init__(period)
        self.generation = 0
        self._path = path
        self._document = document
        self._in_place = in_place

    def work(self) -> None:
        self.generation += 1
        content = json.dumps({**self._document, "generation": self.generation}, indent=4)
        if self._in_place:
            self._path.write_text(content)
            return
        beside = self._path.with_name(f"{self._path.name}.rival")
        beside.write_text(content)
        beside.rename(self._path)


class Reader(Worker):
    """Reads all that a runtime would, without a pause, and fails at what is half-written or names us twice.

    `states`: how many different contents it has seen of lists with us in them, and without."""

    def __init__(self, made: Installation) -> None:
        super().__init__(0.0)
        self.states: dict[bool, set[bytes]] = {True: set(), False: set()}
        self._made = made
        self._also: Callable[[], None] = lambda: None

    def work(self) -> None:
        self._also()
        configurations = network_folder.configuration_files(self._made.config)
        drop_ins = network_folder.drop_ins(self._made.config)
        for path in (*configurations, *drop_ins):
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                continue
            document = chain.parse(content)
            assert document is not None, f"{path} is half-written: {content!r}"
            assert [plugin.get("type") for plugin in chain.inlined(document)].count("jfe") <= 1, content
            if path in configurations:
                self.states[chain.has_own(document)].add(content)
        if self._made.program.exists():
            programs = (self._made.plugin.read_bytes(), self._made.retired.read_bytes())
            assert self._made.program.read_bytes() in programs, "the program is half-written"

    def expect_us(self, list_name: str, network: str) -> None:
        """From now on it fails, too, where a runtime would find us neither in the list nor in the drop-in folder."""
        listed, drop_in = self._made.path(list_name), network_folder.drop_in_path(self._made.config, network)

        def inline() -> bool:
            document = chain.parse(listed.read_bytes())
            return document is not None and chain.has_own(document)

        def check() -> None:
            # Twice, for between two looks it may have gone from one to the other.
            assert inline() or drop_in.exists() or inline() or drop_in.exists(), "we are in no chain"

        self._also = check
