/** Evaluates the project's scripts in Gradle, and prints what AGP and Kotlin's plugin then know, `name=value`. */
package main

import com.android.build.api.dsl.ApplicationExtension
import com.android.build.api.dsl.LibraryExtension
import java.io.File
import kotlin.system.exitProcess
import org.gradle.api.Project
import org.gradle.testfixtures.ProjectBuilder
import org.jetbrains.kotlin.gradle.dsl.KotlinAndroidProjectExtension
import script.app.evaluateScript as evaluateApp
import script.ocr.evaluateScript as evaluateLibrary
import script.root.evaluateScript as evaluateRoot

fun main(arguments: Array<String>) {
    try {
        evaluate(File(arguments[0]), File(arguments[1]))
    } catch (error: Throwable) {
        generateSequence(error, Throwable::cause).forEach { System.err.println("error: $it") }
        exitProcess(1)
    }
    // Gradle leaves threads behind.
    exitProcess(0)
}

private fun evaluate(folder: File, home: File) {
    val root =
        ProjectBuilder.builder().withName("edge-ocr").withProjectDir(folder).withGradleUserHomeDir(home).build()
    val (library, app) = listOf("ocr", "app").map {
        ProjectBuilder.builder().withParent(root).withProjectDir(File(folder, it)).withName(it).build()
    }
    for (project in listOf(root, library, app)) {
        // AGP asks for a newer Gradle than Maven Central has.
        project.extensions.extraProperties.set("android.overrideVersionCheck", "true")
    }
    root.evaluateRoot()
    library.evaluateLibrary()
    app.evaluateApp()

    library.extensions.getByType(LibraryExtension::class.java).run {
        tell("ocr.namespace", namespace)
        tell("ocr.compileSdk", compileSdk)
        tell("ocr.minSdk", defaultConfig.minSdk)
        tell("ocr.abis", defaultConfig.ndk.abiFilters)
        tell("ocr.rules", defaultConfig.consumerProguardFiles.map(File::getName))
        tell("ocr.ignored", androidResources.ignoreAssetsPatterns)
    }
    app.extensions.getByType(ApplicationExtension::class.java).run {
        tell("app.id", defaultConfig.applicationId)
        tell("app.compileSdk", compileSdk)
        tell("app.minSdk", defaultConfig.minSdk)
        tell("app.targetSdk", defaultConfig.targetSdk)
        tell("app.abis", defaultConfig.ndk.abiFilters)
        tell("app.uncompressed", androidResources.noCompress)
        val release = buildTypes.getByName("release")
        tell("app.minified", release.isMinifyEnabled)
        tell("app.shrunk", release.isShrinkResources)
        tell("app.rules", release.proguardFiles.map { it.name.substringBefore(".txt") })
    }
    for (project in listOf(library, app)) {
        val kotlin = project.extensions.getByType(KotlinAndroidProjectExtension::class.java)
        tell("${project.name}.explicitApi", kotlin.explicitApi)
        tell("${project.name}.warningsAreErrors", kotlin.compilerOptions.allWarningsAsErrors.get())
        tell("${project.name}.jvmTarget", kotlin.compilerOptions.jvmTarget.get().target)
        tell("${project.name}.needs", project.listNeeds("implementation"))
    }
    tell("ocr.gives", library.listNeeds("api"))
    val check = library.tasks.getByName("checkFiles")
    tell("ocr.check", library.tasks.getByName("preBuild").taskDependencies.getDependencies(null).contains(check))
}

private fun Project.listNeeds(configuration: String) =
    configurations.getByName(configuration).dependencies.map {
        listOfNotNull(it.group, it.name, it.version).joinToString(":")
    }

private fun tell(name: String, value: Any?) =
    println("$name=${if (value is Iterable<*>) value.joinToString() else value}")
