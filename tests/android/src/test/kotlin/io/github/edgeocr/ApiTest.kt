package io.github.edgeocr

import org.jetbrains.kotlin.abi.tools.AbiFilters
import org.jetbrains.kotlin.abi.tools.AbiTools
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.objectweb.asm.ClassReader
import org.objectweb.asm.ClassVisitor
import org.objectweb.asm.ClassWriter
import org.objectweb.asm.MethodVisitor
import org.objectweb.asm.Opcodes
import java.io.File

/**
 * The library's public API is that of tests/android/ocr.api, so that no change of it goes unnoticed.
 *
 * After a change that is meant: `mvn -f tests/android/pom.xml test -Dtest=ApiTest -Dapi.write=true`.
 */
class ApiTest {
    @get:Rule
    val temporary = TemporaryFolder()

    private val recorded = File(System.getProperty("repository.root"), "tests/android/ocr.api")

    private val classes: List<File> by lazy {
        val root = File(EdgeOcr::class.java.protectionDomain.codeSource.location.toURI())
        val library = File(root, EdgeOcr::class.java.packageName.replace('.', '/'))
        // The app is in the same folder.
        library.walk().onEnter { it.name != "demo" }.filter { it.extension == "class" }.sorted().toList()
    }

    private fun dump(files: List<File>): String {
        val found = StringBuilder().also { AbiTools.getInstance().printJvmDump(it, files, AbiFilters.EMPTY) }.lines()
        return found.filterNot(ACCESSOR::containsMatchIn).joinToString("\n")
    }

    @Test
    fun `the API is the recorded one`() {
        val found = dump(classes)
        if (System.getProperty("api.write") == "true") recorded.writeText(found)
        assertEquals("changed API; if that is meant, see the command in ApiTest.kt", recorded.readText(), found)
    }

    @Test
    fun `internals are not in it`() {
        val found = dump(classes)
        assertTrue("class io/github/edgeocr/EdgeOcr " in found && "class io/github/edgeocr/core/Reading " in found)
        val sources = File(System.getProperty("repository.root"), "android_demo/ocr/src/main/kotlin")
        val internals = sources.walk().filter { it.extension == "kt" }.flatMap { file ->
            INTERNAL.findAll(file.readText()).map { it.groupValues[1] }
        }.toList()
        assertTrue("$internals", internals.size > 10 && "readWhileActive" in internals)
        assertEquals(emptyList<String>(), internals.filter { Regex("""[/ ]$it[;$ ]""").containsMatchIn(found) })
    }

    @Test
    fun `a method that is removed is noticed`() {
        val name = "${EdgeOcr::class.simpleName}.class"
        val changed = File(temporary.root, name)
        changed.writeBytes(removeMethod(classes.first { it.name == name }, "close"))
        val (before, after) = List(2) { i -> dump(classes.map { if (i == 1 && it.name == name) changed else it }).lines() }
        assertEquals(1, before.size - after.size)
        assertTrue(before.toMutableList().also { lines -> after.forEach(lines::remove) }.single().endsWith(" close ()V"))
    }

    private fun removeMethod(file: File, removed: String): ByteArray {
        val writer = ClassWriter(0)
        val visitor = object : ClassVisitor(Opcodes.ASM9, writer) {
            override fun visitMethod(
                access: Int,
                name: String,
                descriptor: String,
                signature: String?,
                exceptions: Array<String>?,
            ): MethodVisitor? =
                if (name == removed) null else super.visitMethod(access, name, descriptor, signature, exceptions)
        }
        ClassReader(file.readBytes()).accept(visitor, 0)
        return writer.toByteArray()
    }

    private companion object {
        /** By which a companion object calls a private constructor; one with default values ends with an Int. */
        val ACCESSOR = Regex("""synthetic fun <init> \(.*(?<!I)Lkotlin/jvm/internal/DefaultConstructorMarker;""")

        val INTERNAL = Regex("""(?m)^internal (?:\w+ )*?(?:class|interface|object|fun) (?:\w+\.)?(\w+)""")
    }
}
