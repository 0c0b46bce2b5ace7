import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    alias(libs.plugins.android.library)
    alias(libs.plugins.kotlin.android)
}

fun readList(name: String): List<String> {
    val text = providers.gradleProperty(name).orNull
        ?: throw GradleException("gradle.properties has no $name: copy it from the exported project")
    return text.split(",").map(String::trim).filter(String::isNotEmpty)
}

val abis = readList("edgeocr.abis")
val engines = readList("edgeocr.engines")
require(engines.isNotEmpty() && engines.all { it == "onnxruntime" || it == "paddle_lite" }) {
    "edgeocr.engines is ${engines.joinToString()}, expected onnxruntime, paddle_lite or both with a comma between"
}
val hasOnnxRuntime = "onnxruntime" in engines
val hasPaddleLite = "paddle_lite" in engines
val paddleJar = file("libs/PaddlePredictor.jar")

android {
    namespace = "io.github.edgeocr"
    compileSdk = libs.versions.compileSdk.get().toInt()

    defaultConfig {
        minSdk = libs.versions.minSdk.get().toInt()
        consumerProguardFiles("consumer-rules.pro")
        ndk { abiFilters += abis }
    }

    sourceSets.named("main") {
        for (engine in engines) kotlin.srcDir("src/$engine/kotlin")
    }

    androidResources {
        // edge-ocr verify needs all networks of the bundle; the app has those of its engines.
        if (!hasPaddleLite) ignoreAssetsPatterns += "!*.nb"
        if (!hasOnnxRuntime) ignoreAssetsPatterns += "!*.onnx"
    }

    compileOptions {
        sourceCompatibility = JavaVersion.toVersion(libs.versions.java.get())
        targetCompatibility = JavaVersion.toVersion(libs.versions.java.get())
    }

    packaging {
        jniLibs {
            // Libraries stay uncompressed in the APK (extractNativeLibs="false"), aligned to 16 KB by AGP, and the
            // system maps them from there, without a second copy on the device. Extracting them would not help devices
            // with 16 KB pages either: they refuse a library whose segments are aligned to 4 KB.
            useLegacyPackaging = false
            // The library has no debug symbols; stripping would need an NDK.
            keepDebugSymbols += "**/*.so"
        }
    }

    lint {
        targetSdk = libs.versions.compileSdk.get().toInt()
        abortOnError = true
        warningsAsErrors = true
        // A newer version of a tool is not a defect of the code.
        disable += setOf("AndroidGradlePluginVersion", "GradleDependency", "NewerVersionAvailable", "OldTargetApi")
        // Export reports how Paddle-Lite's library is aligned; the code cannot change that.
        disable += "Aligned16KB"
    }
}

kotlin {
    explicitApi()
    compilerOptions {
        jvmTarget = JvmTarget.fromTarget(libs.versions.java.get())
        allWarningsAsErrors = true
    }
}

val checkFiles by tasks.registering {
    description = "Fails if files that edge-ocr export puts into this module are missing."
    // Local variables, so that the action does not capture this script and the configuration can be cached.
    val folder = projectDir
    val assets = "src/main/assets/edge-ocr"
    val needed = mutableListOf(file("$assets/manifest.json"))
    if (hasOnnxRuntime) needed += file("$assets/onnx/det.onnx")
    if (hasPaddleLite) {
        needed += paddleJar
        // Paddle-Lite has no libraries for emulators.
        needed += abis.filter { it.startsWith("arm") }.map { file("src/main/jniLibs/$it/libpaddle_lite_jni.so") }
    }
    val fetch = if (hasPaddleLite) "run edge-ocr libs fetch --platform android.armv8 (or android.armv7), then " else ""
    doLast {
        val missing = needed.filterNot(File::isFile).map { it.relativeTo(folder).invariantSeparatorsPath }
        if (missing.isNotEmpty()) {
            throw GradleException("ocr has no ${missing.joinToString()}: ${fetch}export the project again with --force")
        }
    }
}

tasks.matching { it.name == "preBuild" }.configureEach { dependsOn(checkFiles) }

dependencies {
    if (hasOnnxRuntime) implementation(libs.onnxruntime.android)
    // Flow and CoroutineDispatcher are part of the library's API.
    api(libs.kotlinx.coroutines.core)
    // The app's tasks that unpack the archive also wait for this check; otherwise they would fail first.
    if (hasPaddleLite) implementation(files(paddleJar) { builtBy(checkFiles) })
}
