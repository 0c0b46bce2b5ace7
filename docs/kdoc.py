"""Makes pages of the Android library's KDoc with Dokka, for `mkdocs build`; `nox -s docs` runs it.

Exits with 1 if a public name has no KDoc or a link in it leads nowhere, and with 6 if Maven or its repository is
missing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
POM = REPOSITORY / "tests" / "android" / "pom.xml"

# Dokka's pages, as configured in the pom.
PAGES = POM.parent / "target" / "kdoc"

_GAPS = 1
_TOOLCHAIN = 6

# Kotlin makes these names.
_GENERATED = re.compile(r"Undocumented: \S*(?:\.Companion/ |/entries/#/ |/values/#/ |/valueOf/#)")

# What Maven says if it reaches no repository.
_NO_NETWORK = re.compile(r"Unknown host|No route to host|Network is unreachable|Connection (refused|timed out)")


def find_gaps(log: str) -> Iterator[str]:
    """Yield Dokka's warnings, except those about names that Kotlin makes."""
    for line in log.splitlines():
        if (found := re.match(r"\[WARN(?:ING)?\] (.+)", line)) and not _GENERATED.search(found[1]):
            yield found[1].removesuffix(" (Android)")


def main() -> int:
    """Make the pages and return the exit code."""
    shutil.rmtree(PAGES, ignore_errors=True)
    maven = shutil.which("mvn")
    if maven is None:
        print("no reference of the Android library: no mvn (Debian: maven and openjdk-17-jdk-headless)")
        return _TOOLCHAIN
    # By its full name: for a short one, Maven does not say why it finds no plugin.
    version = re.search(r"<dokka.version>(.+)</dokka.version>", POM.read_text(encoding="utf-8"))
    if version is None:
        raise ValueError(f"{POM} has no dokka.version")
    # Warnings only.
    options = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    done = subprocess.run(
        [maven, "-B", "-f", POM, f"org.jetbrains.dokka:dokka-maven-plugin:{version[1]}:dokka"],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "MAVEN_OPTS": f"-Xmx1g {os.environ.get('MAVEN_OPTS', '')} {options}"},
    )
    if done.returncode and _NO_NETWORK.search(done.stdout):
        print("no reference of the Android library: no Maven repository that can be reached")
        return _TOOLCHAIN
    gaps = [] if done.returncode else list(find_gaps(done.stdout))
    if done.returncode or gaps or not (PAGES / "index.html").is_file():
        print("\n".join(gaps) or done.stdout + done.stderr)
        return _GAPS
    return 0


if __name__ == "__main__":
    sys.exit(main())
