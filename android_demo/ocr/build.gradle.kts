import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    alias(libs.plugins.android.library)
    alias(libs.plugins.kotlin.android)
}

val abis = providers.gradleProperty("edgeocr.abis").get().split(",").map(String::trim).filter(String::isNotEmpty)
val paddleJar = file("libs/PaddlePredictor.jar")

android {
    namespace = "io.github.edgeocr"
    compileSdk = libs.versions.compileSdk.get().toInt()

    defaultConfig {
        minSdk = libs.versions.minSdk.get().toInt()
        consumerProguardFiles("consumer-rules.pro")
        ndk { abiFilters += abis }
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

val checkPaddleLite by tasks.registering {
    description = "Fails if files that edge-ocr export puts into this module are missing."
    // Local variables, so that the action does not capture this script and the configuration can be cached.
    val folder = projectDir
    val libraries = abis.map { file("src/main/jniLibs/$it/libpaddle_lite_jni.so") }
    val needed = listOf(paddleJar) + libraries + file("src/main/assets/edge-ocr/manifest.json")
    val command = "edge-ocr export --target android --abi ${abis.joinToString(",")}"
    doLast {
        val missing = needed.filterNot(File::isFile).map { it.relativeTo(folder).invariantSeparatorsPath }
        if (missing.isNotEmpty()) {
            throw GradleException("ocr has no ${missing.joinToString()}; run: $command")
        }
    }
}

tasks.matching { it.name == "preBuild" }.configureEach { dependsOn(checkPaddleLite) }

dependencies {
    // The app's tasks that unpack the archive also wait for this check; otherwise they would fail first.
    implementation(files(paddleJar) { builtBy(checkPaddleLite) })
}
