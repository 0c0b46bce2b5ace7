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
            // system maps them from there: no second copy on the device. Extracting them would not help devices with
            // pages of 16 KB either: those refuse a library whose own segments are aligned to 4 KB, wherever it lies.
            useLegacyPackaging = false
            // Released without debug symbols; stripping would need an NDK.
            keepDebugSymbols += "**/*.so"
        }
    }

    lint {
        targetSdk = libs.versions.compileSdk.get().toInt()
        abortOnError = true
        warningsAsErrors = true
        // Newer versions of tools are no fault of the code.
        disable += setOf("AndroidGradlePluginVersion", "GradleDependency", "NewerVersionAvailable", "OldTargetApi")
        // How Paddle-Lite's library is aligned is told at export; no change of the code mends it.
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
    description = "Fails where what edge-ocr export puts into this module is missing."
    // Local, so that the action keeps no hold of this script and the configuration can be cached.
    val folder = projectDir
    val libraries = abis.map { file("src/main/jniLibs/$it/libpaddle_lite_jni.so") }
    val needed = listOf(paddleJar) + libraries + file("src/main/assets/edge-ocr/manifest.json")
    val command = "edge-ocr export --target android --abi ${abis.joinToString(",")}"
    doLast {
        val missing = needed.filterNot(File::isFile).map { it.relativeTo(folder).invariantSeparatorsPath }
        if (missing.isNotEmpty()) {
            throw GradleException("ocr lacks ${missing.joinToString()}; this puts them there: $command")
        }
    }
}

tasks.matching { it.name == "preBuild" }.configureEach { dependsOn(checkPaddleLite) }

dependencies {
    // An app's tasks, too, that unpack the archive then wait for the check, and do not fail first with words of theirs.
    implementation(files(paddleJar) { builtBy(checkPaddleLite) })
}
