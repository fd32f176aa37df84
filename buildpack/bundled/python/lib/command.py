"""Writes a command as a list of TOML: what needs no shell is split, the rest is given to one."""

import json
import re
import sys

line = sys.argv[1].strip()
if re.fullmatch(r"[\w@%+=:,./ -]+", line) and not re.match(r"\w+=", line):
    words = line.split()
else:
    words = ["bash", "-c", "exec " + line if re.fullmatch(r"[^;&|]+", line) else line]
print(json.dumps(words))
