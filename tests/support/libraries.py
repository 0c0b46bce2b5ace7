"""Sources of Paddle-Lite libraries of a few functions, and the compilers for them."""

from __future__ import annotations

COMPILERS = {
    "armv8": ["aarch64-linux-gnu-g++"],
    "armv7hf": ["arm-linux-gnueabihf-g++"],
    "armv7": ["arm-linux-gnueabihf-g++", "-mfloat-abi=softfp"],
    "x86": ["g++"],
}

# No header is needed, so one compiler serves for soft float, too; std's own types are only named.
CXX = """
namespace std { class string; template <typename T> class shared_ptr { T* p; public: shared_ptr(); ~shared_ptr(); }; }
namespace paddle { namespace lite_api {
class PaddlePredictor;
struct ConfigBase { void set_threads(int); };
struct MobileConfig : ConfigBase { void set_model_from_file(const std::string&); };
struct Tensor { void Resize(const std::string&); int shape() const; };
void ConfigBase::set_threads(int) {}
#ifndef WITHOUT_SET_MODEL
void MobileConfig::set_model_from_file(const std::string&) {}
#endif
void Tensor::Resize(const std::string&) {}
int Tensor::shape() const { return 0; }
template <typename C> __attribute__((visibility("default"))) std::shared_ptr<PaddlePredictor>
CreatePaddlePredictor(const C&);
template <> __attribute__((visibility("default"))) std::shared_ptr<PaddlePredictor>
CreatePaddlePredictor(const MobileConfig&) { return std::shared_ptr<PaddlePredictor>(); }
} }
#ifdef WITH_CV
namespace paddle { namespace lite { namespace utils { namespace cv {
struct ImagePreprocess { void image_flip(); };
void ImagePreprocess::image_flip() {}
} } } }
#endif
"""

JNI = """
extern "C" {
void Java_com_baidu_paddle_lite_PaddlePredictor_newCppPaddlePredictor__Lcom_baidu_paddle_lite_MobileConfig_2() {}
void Java_com_baidu_paddle_lite_PaddlePredictor_run() {}
void Java_com_baidu_paddle_lite_Tensor_nativeResize() {}
#ifndef WITHOUT_GET_DATA
void Java_com_baidu_paddle_lite_Tensor_getFloatData() {}
#endif
}
"""
