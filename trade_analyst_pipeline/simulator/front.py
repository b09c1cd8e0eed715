"""What stands before a server whose scenario names failures below HTTP: the fault proxy, on the server's own port.

The server itself moves to a port that nobody is told, with an authority that only the proxy knows.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from trade_analyst_pipeline.simulator.fault_proxy import FaultProxy, forwarding
from trade_analyst_pipeline.simulator.scenario import FaultSection


class WireFront:
    """A proxy that strikes as the sections of a scenario say; open between `open` and `close`."""

    def __init__(self, sections: tuple[FaultSection, ...]) -> None:
        self._sections = sections
        self._folder = tempfile.TemporaryDirectory(prefix="simulator-front-")
        self._proxy: FaultProxy | None = None

    @property
    def inner_ca_file(self) -> Path:
        """Where the server behind it writes its authority."""
        return Path(self._folder.name) / "ca.pem"

    def open(self, inner_url: str, *, ca_file: Path, port: int, names: tuple[str, ...]) -> str:
        """Listen before the server at `inner_url`; the address to use. Raises OSError when the port is taken."""
        proxy = FaultProxy(forwarding(inner_url, self.inner_ca_file), ca_file=ca_file, port=port, names=names)
        for section in self._sections:
            times = None if section.times == "always" else section.times
            proxy.strike(section.kind, path=section.path, symbol=section.symbol, times=times)
        proxy.__enter__()
        self._proxy = proxy
        return proxy.base_url

    def close(self) -> None:
        """End the proxy and forget the server's authority; once more does nothing."""
        if self._proxy is not None:
            self._proxy.__exit__(None, None, None)
            self._proxy = None
        self._folder.cleanup()
