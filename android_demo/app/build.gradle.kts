import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    alias(libs.plugins.android.application)
    alias(libs.plugins.kotlin.android)
}

android {
    namespace = "io.github.edgeocr.demo"
    compileSdk = libs.versions.compileSdk.get().toInt()

    defaultConfig {
        applicationId = "io.github.edgeocr.demo"
        minSdk = libs.versions.minSdk.get().toInt()
        targetSdk = libs.versions.compileSdk.get().toInt()
        // ONNX Runtime has libraries for four ABIs.
        ndk { abiFilters += providers.gradleProperty("edgeocr.abis").get().split(",").map(String::trim) }
        versionCode = 1
        versionName = "0.1.0"
    }

    buildTypes {
        release {
            isMinifyEnabled = true
            isShrinkResources = true
            proguardFiles(getDefaultProguardFile("proguard-android-optimize.txt"))
        }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.toVersion(libs.versions.java.get())
        targetCompatibility = JavaVersion.toVersion(libs.versions.java.get())
    }

    // Networks hardly compress; stored uncompressed, they are mapped from the APK.
    androidResources { noCompress += listOf("nb", "onnx") }

    packaging {
        jniLibs {
            // See :ocr for the reasons.
            useLegacyPackaging = false
            keepDebugSymbols += "**/*.so"
        }
    }

    lint {
        abortOnError = true
        warningsAsErrors = true
        // A newer version of a tool is not a defect of the code.
        disable += setOf("AndroidGradlePluginVersion", "GradleDependency", "NewerVersionAvailable", "OldTargetApi")
        // Export reports how Paddle-Lite's library is aligned; the code cannot change that.
        disable += "Aligned16KB"
        // Suggests AndroidX for versions of Android older than minSdk.
        disable += "ExifInterface"
    }
}

kotlin {
    compilerOptions {
        jvmTarget = JvmTarget.fromTarget(libs.versions.java.get())
        allWarningsAsErrors = true
    }
}

dependencies {
    implementation(project(":ocr"))
}
