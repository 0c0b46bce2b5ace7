// Reads the text of a picture with edge-ocr's service: client [--words] IMAGE [URL]
// c++ -std=c++17 client.cpp -o client -lcurl     (Debian: libcurl4-openssl-dev, nlohmann-json3-dev)

#include <curl/curl.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

std::string EncodeBase64(const std::string& bytes) {
  std::string text;
  std::uint32_t bits = 0;
  int count = 0;
  for (unsigned char byte : bytes) {
    bits = bits << 8 | byte;
    for (count += 8; count >= 6; count -= 6) text += kAlphabet[bits >> (count - 6) & 63];
  }
  if (count > 0) text += kAlphabet[bits << (6 - count) & 63];
  text.append((4 - text.size() % 4) % 4, '=');
  return text;
}

std::string DecodeBase64(const std::string& text) {
  std::string bytes;
  std::uint32_t bits = 0;
  int count = 0;
  for (char digit : text) {
    if (digit == '=') break;
    const auto value = kAlphabet.find(digit);
    if (value == std::string_view::npos) throw std::runtime_error("the answer's picture is not Base64");
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    if ((count += 6) >= 8) bytes += static_cast<char>(bits >> (count -= 8) & 255);
  }
  return bytes;
}

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path.string() + " cannot be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

std::size_t Append(char* data, std::size_t size, std::size_t count, void* answer) {
  static_cast<std::string*>(answer)->append(data, size * count);
  return size * count;
}

std::string Post(const std::string& url, const std::string& body) {
  const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl(curl_easy_init(), curl_easy_cleanup);
  if (!curl) throw std::runtime_error("libcurl does not start");
  const std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers(
      curl_slist_append(nullptr, "Content-Type: application/json"), curl_slist_free_all);
  std::string answer;
  curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDS, body.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT, 120L);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, Append);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &answer);
  const CURLcode code = curl_easy_perform(curl.get());
  if (code != CURLE_OK) throw std::runtime_error(url + ": " + curl_easy_strerror(code));
  return answer;
}

void Run(const std::filesystem::path& image, const std::string& url, bool words) {
  const nlohmann::json body = {{"image", EncodeBase64(ReadFile(image))},
                               {"inferenceParams", {{"returnWordBox", words}}}};
  const auto answer = nlohmann::json::parse(Post(url, body.dump()));
  if (const int code = answer.at("errorCode"); code != 0) {
    throw std::runtime_error(std::to_string(code) + ": " + answer.at("errorMsg").get<std::string>());
  }
  const auto& result = answer.at("result");
  for (const auto& line : result.at("texts")) {
    std::printf("%.3f\t%s\n", line.at("score").get<double>(), line.at("text").get<std::string>().c_str());
    for (const auto& word : line.value("words", nlohmann::json::array())) {
      std::string corners;
      for (const auto& corner : word.at("poly")) {
        corners += (corners.empty() ? "" : " ") + corner.at(0).dump() + "," + corner.at(1).dump();
      }
      std::printf("\t%.3f\t%s\t%s\n", word.at("score").get<double>(), word.at("text").get<std::string>().c_str(),
                  corners.c_str());
    }
  }
  const std::string saved = image.stem().string() + "_ocr.jpg";
  std::ofstream file(saved, std::ios::binary);
  file << DecodeBase64(result.at("image"));
  if (!file.flush()) throw std::runtime_error(saved + " cannot be written");
  std::cerr << "saved " << saved << "\n";
}

}  // namespace

int main(int count, char** values) {
  const std::string usage = "usage: client [--words] IMAGE [URL]\n";
  std::vector<std::string> given;
  bool words = false;
  for (int index = 1; index < count; ++index) {
    const std::string value = values[index];
    if (value == "-h" || value == "--help") {
      std::cout << usage;
      return 0;
    }
    if (value == "--words") {
      words = true;
    } else {
      given.push_back(value);
    }
  }
  if (given.empty() || given.size() > 2) {
    std::cerr << usage;
    return 1;
  }
  try {
    Run(given[0], given.size() == 2 ? given[1] : "http://127.0.0.1:8080/ocr", words);
  } catch (const std::exception& error) {
    std::cerr << "Error: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
