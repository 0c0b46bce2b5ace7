"""Compiles the Gradle files of an Android project as Kotlin, and evaluates them in Gradle with AGP and Kotlin's plugin.

Gradle's Kotlin DSL is in no repository that tests can reach. `tests/android/gradle/src` has the few of its functions
that the files use, so they call the real types: a property that AGP does not have is an error. What Gradle does after
evaluation, from the variants to the tasks, does not run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from support.apk import POM as TOOLS_POM
from support.apk import TESTS, Tools, fetch_jars, run

POM = TESTS / "android" / "gradle" / "pom.xml"
SOURCES = POM.parent / "src"
# Of the packages that Gradle's scripts import by themselves, those that the files use.
IMPORTS = [
    *("java.io.File", "org.gradle.api.*", "org.gradle.api.initialization.*", "org.gradle.api.initialization.resolve.*"),
    *("org.gradle.api.file.*", "org.gradle.api.provider.*", "org.gradle.api.tasks.*", "dsl.*"),
]
# Gradle's own annotations: `property = value`, and `this` in the blocks of its methods.
COMPILER_PLUGINS = {
    "assignment": ("org.jetbrains.kotlin.assignment", "org.gradle.api.SupportsKotlinAssignmentOverloading"),
    "sam-with-receiver": ("org.jetbrains.kotlin.samWithReceiver", "org.gradle.api.HasImplicitReceiver"),
}
# Gradle opens these to itself.
OPENED = ("lang", "lang.invoke", "util", "io", "net")


def wrap(text: str, package: str, receiver: str, extension: str = "") -> str:
    """Return a script as Kotlin: a function, with the accessors that Gradle generates for the plugins.

    Lines keep their numbers but for the first.
    """
    imports = [*IMPORTS, *re.findall(r"^import (.+)$", text, re.MULTILINE)]
    body = re.sub(r"^import .+$", "", text, flags=re.MULTILINE)
    accessors = ""
    for name, kind in (("android", extension), ("kotlin", "KotlinAndroidProjectExtension")):
        if extension:
            accessors += f"private fun Project.{name}(block: {kind}.() -> Unit) = "
            accessors += f"extensions.configure({kind}::class.java) {{ block() }}; "
    if extension:
        imports += ["com.android.build.api.dsl.*", "org.jetbrains.kotlin.gradle.dsl.*"]
    providers = "val providers = TestProviders(this); " if receiver == "Project" else ""
    lines = "; ".join(f"import {name}" for name in imports)
    return f"package {package}; {lines}; {accessors}fun {receiver}.evaluateScript() {{ {providers}{body}\n}}\n"


def read_catalog(text: str) -> dict[str, dict[str, str]]:
    """Return versions, libraries (`group:name:version`) and plugins (their ids) of a version catalog."""
    versions = dict(re.findall(r'^(\w+) = "(.+)"$', text, re.MULTILINE))
    entry = r'^([\w-]+) = \{ %s = "(.+)", version\.ref = "(\w+)" \}$'
    libraries = {name: f"{module}:{versions[ref]}" for name, module, ref in re.findall(entry % "module", text, re.M)}
    # A version that is missing is an error for plugins too.
    plugins = {name: (identity, versions[ref])[0] for name, identity, ref in re.findall(entry % "id", text, re.M)}
    return {"versions": versions, "libraries": libraries, "plugins": plugins}


def write_catalog(catalog: Mapping[str, Mapping[str, str]]) -> str:
    """Return `libs` as Gradle generates it: a dash in a name makes an object."""
    tree: dict = {}
    forms = {"versions": 'Providers.of("{}")', "libraries": 'Providers.of("{}")', "plugins": 'Plugin("{}")'}
    for kind, entries in catalog.items():
        for name, value in entries.items():
            *folders, last = ([] if kind == "libraries" else [kind]) + re.split("[-_.]", name)
            place = tree
            for folder in folders:
                place = place.setdefault(folder, {})
            place[last] = forms[kind].format(value)

    def emit(branch: dict) -> str:
        return "".join(
            f"object {name} {{\n{emit(value)}}}\n" if isinstance(value, dict) else f"val {name} = {value}\n"
            for name, value in branch.items()
        )

    return f"package dsl\nimport org.gradle.api.internal.provider.Providers\nobject libs {{\n{emit(tree)}}}\n"


def write_sources(texts: Mapping[str, str], folder: Path) -> list[Path]:
    """Write the Gradle files, given by their names in the project, as Kotlin; return the files."""
    app, library = "ApplicationExtension", "LibraryExtension"
    sources = {
        "settings.kt": wrap(texts["settings.gradle.kts"], "script.settings", "Settings"),
        "root.kt": wrap(texts["build.gradle.kts"], "script.root", "Project"),
        "app.kt": wrap(texts["app/build.gradle.kts"], "script.app", "Project", app),
        "ocr.kt": wrap(texts["ocr/build.gradle.kts"], "script.ocr", "Project", library),
        "libs.kt": write_catalog(read_catalog(texts["gradle/libs.versions.toml"])),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in sources.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in sources]


def read_texts(project: Path) -> dict[str, str]:
    """Return the project's Gradle files by name."""
    files = [*project.glob("*.gradle.kts"), *project.glob("*/*.gradle.kts"), project / "gradle" / "libs.versions.toml"]
    return {path.relative_to(project).as_posix(): path.read_text(encoding="utf-8") for path in files}


@dataclass(frozen=True)
class Gradle:
    """Gradle with AGP and Kotlin's plugin."""

    tools: Tools
    jars: tuple[Path, ...]

    @classmethod
    def fetch(cls, agp: str) -> Gradle:
        """Fetch them with Maven; raises BuildError with its messages."""
        # The compiler needs no aapt2.
        tools = Tools(Path(), fetch_jars(TOOLS_POM, "classpath.txt"))
        return cls(tools, fetch_jars(POM, f"agp-{agp}.txt", f"-Dagp.version={agp}"))

    def compile(self, sources: Sequence[Path], out: Path) -> None:
        """Compile the sources; raises BuildError with the compiler's messages."""
        flags = []
        for name, (plugin, annotation) in COMPILER_PLUGINS.items():
            (jar,) = (jar for jar in self.jars if jar.name.startswith(f"kotlin-{name}-compiler-plugin"))
            flags += [f"-Xplugin={jar}", "-P", f"plugin:{plugin}:annotation={annotation}"]
        path = os.pathsep.join(map(str, self.jars))
        common = ("-no-stdlib", "-no-reflect", "-jvm-target", "17", *flags)
        self.tools.java("org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", *common, "-classpath", path, "-d", out, *sources)

    def evaluate(self, compiled: Path, project: Path, home: Path) -> dict[str, str]:
        """Evaluate compiled scripts with Main.kt; raises BuildError with what Gradle and its plugins say."""
        opened = [word for name in OPENED for word in ("--add-opens", f"java.base/java.{name}=ALL-UNNAMED")]
        path = os.pathsep.join(map(str, (compiled, *self.jars)))
        told = run("java", "-Xmx1g", "-XX:TieredStopAtLevel=1", *opened, "-cp", path, "main.MainKt", project, home)
        return dict(re.findall(r"^([\w.]+)=(.*)$", told, re.MULTILINE))
