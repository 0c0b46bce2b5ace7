/** What the scripts use of Gradle's Kotlin DSL, which is in no repository; the types behind it are Gradle's. */
package dsl

import java.util.Properties
import kotlin.reflect.KProperty
import org.gradle.api.Project
import org.gradle.api.Task
import org.gradle.api.artifacts.Dependency
import org.gradle.api.artifacts.dsl.DependencyHandler
import org.gradle.api.internal.provider.Providers
import org.gradle.api.provider.Property
import org.gradle.api.provider.Provider
import org.gradle.api.provider.ProviderFactory
import org.gradle.api.tasks.TaskContainer
import org.gradle.api.tasks.TaskProvider

// `property = value`

fun <T : Any> Property<T>.assign(value: T) = set(value)

fun <T : Any> Property<T>.assign(value: Provider<out T>) = set(value)

// `plugins { alias(libs.plugins.name) apply false }`

class Plugin(val id: String) {
    var isApplied = true
}

class Plugins {
    val found = mutableListOf<Plugin>()

    fun alias(plugin: Plugin): Plugin = Plugin(plugin.id).also { found += it }
}

infix fun Plugin.apply(apply: Boolean) {
    isApplied = apply
}

fun Project.plugins(block: Plugins.() -> Unit) =
    Plugins().apply(block).found.filter { it.isApplied }.forEach { pluginManager.apply(it.id) }

// `val name by tasks.registering { }`

class Registering(private val tasks: TaskContainer, private val action: Task.() -> Unit) {
    operator fun provideDelegate(receiver: Any?, property: KProperty<*>): TaskProvider<Task> =
        tasks.register(property.name) { action() }
}

fun TaskContainer.registering(action: Task.() -> Unit) = Registering(this, action)

operator fun TaskProvider<Task>.getValue(receiver: Any?, property: KProperty<*>): TaskProvider<Task> = this

// `dependencies { implementation(…) }`

fun Project.dependencies(block: DependencyHandler.() -> Unit) = dependencies.block()

fun DependencyHandler.implementation(notation: Any): Dependency? = add("implementation", notation)

fun DependencyHandler.api(notation: Any): Dependency? = add("api", notation)

/** `providers` of a project made for tests, which does not read `gradle.properties` itself. */
class TestProviders(project: Project) : ProviderFactory by project.providers {
    private val properties = Properties().apply {
        project.rootProject.file("gradle.properties").reader().use { load(it) }
    }

    override fun gradleProperty(name: String): Provider<String> = Providers.ofNullable(properties.getProperty(name))
}
