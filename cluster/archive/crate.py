"""Describes an archive for machines: the metadata of RO-Crate 1.1, as JSON-LD."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from cluster.archive.facts import ArchivedSweep
from cluster.archive.layout import CARD, CRATE, MANIFEST, STORE

_VERSION = "https://w3id.org/ro/crate/1.1"
_PARQUET = "application/vnd.apache.parquet"
_PROGRAM = "#zilsweep"

Entity = dict[str, Any]


def crate_json(sweep: ArchivedSweep, sizes: Mapping[str, int]) -> bytes:
    """The text of `ro-crate-metadata.json`.

    sizes  the bytes of each file by its name. The objects of the store are described together.
    """
    files = [_file(name, size) for name, size in sizes.items() if not name.startswith(STORE)]
    graph = [
        {
            "@id": CRATE,
            "@type": "CreativeWork",
            "conformsTo": {"@id": _VERSION},
            "about": {"@id": "./"},
        },
        _root(sweep, [*(file["@id"] for file in files), STORE, MANIFEST]),
        *files,
        _file(MANIFEST, None) | {"description": "The sha256 of every other file."},
        {
            "@id": STORE,
            "@type": "Dataset",
            "name": "The sweep's own objects, as a store of zilsweep",
        },
        _licence(sweep),
        {
            "@id": _PROGRAM,
            "@type": "SoftwareApplication",
            "name": "zilsweep",
            "version": "; ".join(sweep.code) or "unknown",
            "softwareRequirements": list(sweep.versions),
        },
        _action(sweep),
    ]
    body = {"@context": f"{_VERSION}/context", "@graph": graph}
    return json.dumps(body, indent=1).encode()


def _root(sweep: ArchivedSweep, parts: Iterable[str]) -> Entity:
    return {
        "@id": "./",
        "@type": "Dataset",
        "name": f"The sweep {sweep.name} of predictive-coding experiments",
        "description": (
            f"{sweep.done} of {sweep.trials} trials of the experiment {sweep.experiment}: the "
            "tables as Parquet, and the committed results from which they were made."
        ),
        "datePublished": sweep.exported,
        "license": {"@id": _licence(sweep)["@id"]},
        "hasPart": [{"@id": part} for part in parts],
    }


def _file(name: str, size: int | None) -> Entity:
    kind = {CARD: "text/markdown", MANIFEST: "text/plain"}.get(name, _PARQUET)
    said = {} if size is None else {"contentSize": str(size)}
    return {"@id": name, "@type": "File", "name": name, "encodingFormat": kind, **said}


def _licence(sweep: ArchivedSweep) -> Entity:
    return {
        "@id": f"https://spdx.org/licenses/{sweep.licence}",
        "@type": "CreativeWork",
        "name": sweep.licence,
        "identifier": sweep.licence,
    }


def _action(sweep: ArchivedSweep) -> Entity:
    times = {"startTime": sweep.first, "endTime": sweep.last} if sweep.first else {}
    return {
        "@id": "#training",
        "@type": "CreateAction",
        "name": sweep.command or "The command is not known.",
        "description": "Ran on: " + ("; ".join(sweep.machines) or "nothing yet"),
        "instrument": {"@id": _PROGRAM},
        "result": {"@id": "./"},
        **times,
    }
