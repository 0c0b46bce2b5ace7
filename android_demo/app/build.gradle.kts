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

    // Networks hardly compress, and stored as they are they are read without being unpacked.
    androidResources { noCompress += "nb" }

    packaging {
        jniLibs {
            // As in :ocr, where the reasons are.
            useLegacyPackaging = false
            keepDebugSymbols += "**/*.so"
        }
    }

    lint {
        abortOnError = true
        warningsAsErrors = true
        // Newer versions of tools are no fault of the code.
        disable += setOf("AndroidGradlePluginVersion", "GradleDependency", "NewerVersionAvailable", "OldTargetApi")
        // How Paddle-Lite's library is aligned is told at export; no change of the code mends it.
        disable += "Aligned16KB"
        // Wants AndroidX, for the sake of versions of Android older than minSdk.
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
