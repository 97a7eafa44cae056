// Classifies a picture with the net of specs/digits.yaml, whose weights lie in the library.
//
//   alexc build specs/digits.yaml --weights specs/digits/digits.safetensors --embed-weights -o build/cpp
//   c++ -std=c++20 -O2 -Ibuild/cpp examples/cpp/classify.cpp build/cpp/libdigits.a -pthread -o build/cpp/classify
//   build/cpp/classify specs/digits/seven.ppm
//
// Pictures are read from PPM files, which hold red, green and blue of every pixel as they are.
#include "digits.hpp"

#include <algorithm>
#include <array>
#include <exception>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

struct Picture {
    int width = 0, height = 0;
    std::vector<char> rgb;
};

Picture read_ppm(const char *path) {
    std::ifstream file(path, std::ios::binary);
    std::string magic;
    Picture picture;
    int most = 0;
    file >> magic >> picture.width >> picture.height >> most;
    file.get();
    const bool sound = file && magic == "P6" && most == 255 && picture.width > 0 &&
                       picture.height > 0 && picture.width <= 1 << 14 && picture.height <= 1 << 14;
    if (sound) {
        picture.rgb.resize(std::size_t(3) * std::size_t(picture.width) * std::size_t(picture.height));
        file.read(picture.rgb.data(), static_cast<std::streamsize>(picture.rgb.size()));
    }
    if (!sound || !file) throw std::runtime_error(std::string(path) + ": no PPM picture");
    return picture;
}

// Threads that start anew each time: enough for an example, too slow for a small net.
void on_threads(unsigned count, auto &&task) {
    std::vector<std::jthread> threads;
    for (unsigned index = 1; index < count; index++)
        threads.emplace_back([&task, index] { task(index); });
    task(0U);
}

} // namespace

int main(int count, char **arguments) try {
    if (count != 2) {
        std::cerr << "usage: " << arguments[0] << " PICTURE.ppm\n";
        return 2;
    }
    const Picture picture = read_ppm(arguments[1]);
    const std::span rgb(reinterpret_cast<const unsigned char *>(picture.rgb.data()),
                        picture.rgb.size());
    std::array<float, digits::input_len> input;
    digits::network::preprocess(rgb, picture.height, picture.width, input);

    digits::network net(2);
    net.self_test();
    std::array<float, digits::output_len> output, shared;
    net.run(input, output);
    net.run_parallel(input, shared, 2, [](unsigned threads, auto task) { on_threads(threads, task); });
    if (output != shared) throw std::runtime_error("two threads gave other bits than one");

    const auto best = std::max_element(output.begin(), output.end());
    const auto number = static_cast<int>(best - output.begin());
    std::cout << number << ' ' << digits::network::label(number) << ' ' << *best << '\n';
    return 0;
} catch (const std::exception &problem) {
    std::cerr << problem.what() << '\n';
    return 1;
}
