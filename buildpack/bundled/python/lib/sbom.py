"""Writes a CycloneDX bill of materials of the packages that this Python has."""

import importlib.metadata
import json
import re
import sys

components = {}
for dist in importlib.metadata.distributions(path=[p for p in sys.path if p.endswith("site-packages")]):
    name, version = dist.metadata["Name"], dist.version
    if not name:
        continue
    purl = "pkg:pypi/%s@%s" % (re.sub(r"[-_.]+", "-", name).lower(), version)
    component = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    if dist.metadata["License"] and len(dist.metadata["License"]) < 100:
        component["licenses"] = [{"license": {"name": dist.metadata["License"]}}]
    components[purl] = component
json.dump({"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": [components[k] for k in sorted(components)]}, sys.stdout)
