//! The C++ header of an object: a class around the functions of C.

use super::ObjectOptions;
use alexc_runtime::program::Program;

/// The header, for C++20 and later, which includes the one that [`super::header()`] makes.
pub fn cpp_header(program: &Program, options: &ObjectOptions<'_>) -> String {
    let part = |there: bool, text: &'static str| if there { text } else { "" };
    let embedded = options.weights.is_some();
    let text = [
        BEGIN,
        if embedded { EMBEDDED } else { APART },
        RUN,
        part(options.preprocess_of(program).is_some(), PREPROCESS),
        part(options.self_test.is_some(), SELF_TEST),
        END,
        ERRORS,
        part(options.preprocess_of(program).is_some(), BAD_PICTURE),
        part(options.self_test.is_some(), FAILED),
        LAST,
    ]
    .concat();
    // A namespace cannot be called like a keyword, and must not be called like some others.
    let taken = KEYWORDS.contains(&program.name.as_str());
    let namespace = format!("{}{}", program.name, if taken { "_net" } else { "" });
    text.replace("@NAMESPACE@", &namespace)
        .replace("@NAME@", &program.name)
        .replace("@UPPER@", &program.name.to_ascii_uppercase())
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
}

/// Names that a namespace cannot have, as far as anybody would give them to a net.
const KEYWORDS: [&str; 38] = [
    "and",
    "auto",
    "bool",
    "break",
    "case",
    "catch",
    "char",
    "class",
    "const",
    "default",
    "delete",
    "do",
    "double",
    "else",
    "enum",
    "export",
    "float",
    "for",
    "if",
    "int",
    "long",
    "namespace",
    "new",
    "not",
    "or",
    "private",
    "public",
    "return",
    "short",
    "static",
    "std",
    "struct",
    "switch",
    "this",
    "try",
    "union",
    "void",
    "while",
];

const BEGIN: &str = r#"// @NAME@ for C++20: a neural net compiled by alexc @VERSION@.
//
//     @NAMESPACE@::network net{weights};
//     net.run(input, output);
#ifndef @UPPER@_HPP
#define @UPPER@_HPP

#include "@NAME@.h"

#include <array>
#include <cstddef>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

namespace @NAMESPACE@ {

/// Floats of input and output, and of one image of the input.
inline constexpr std::size_t input_len = @UPPER@_INPUT_LEN;
inline constexpr std::size_t output_len = @UPPER@_OUTPUT_LEN;
inline constexpr std::size_t image_len = @UPPER@_IMAGE_LEN;
/// Dimensions, batch first.
inline constexpr std::array<std::size_t, @UPPER@_INPUT_RANK> input_dims = @UPPER@_INPUT_DIMS;
inline constexpr std::array<std::size_t, @UPPER@_OUTPUT_RANK> output_dims = @UPPER@_OUTPUT_DIMS;

/// What a status of the functions of C means, for people.
[[nodiscard]] inline const char *message(int status) noexcept;

/// A function of C returned another status than @UPPER@_OK.
class error : public std::runtime_error {
public:
    explicit error(int status)
        : std::runtime_error(std::string("@NAME@: ") + message(status)), status_(status) {}
    [[nodiscard]] int status() const noexcept { return status_; }

private:
    int status_;
};

/// The net with a workspace of its own: one object for each thread that runs it. Objects can be
/// moved, not copied. Functions called try_... return a status, the others throw error.
class network {
public:
"#;

const APART: &str = r#"    /// The packed weights, without the header of their file; they must outlive the object.
    /// `threads` is the largest number that run_parallel will be called with.
    explicit network(std::span<const std::byte> weights, unsigned threads = 1)
        : network(weights.data(), threads) {
        if (weights.size() != @UPPER@_WEIGHTS_BYTES) throw error(@UPPER@_WRONG_LENGTH);
    }

    /// A whole file of packed weights in memory, mapped or read to an aligned place. It is read
    /// once, to see that it is the right one and undamaged, unless `whole` is false: then only its
    /// header is looked at.
    [[nodiscard]] static network from_file(std::span<const std::byte> file, unsigned threads = 1,
                                           bool whole = true) {
        check(whole ? @NAME@_check_weights(file.data(), file.size())
                    : @NAME@_check_weights_header(file.data(), file.size()));
        return network(file.data() + @UPPER@_WEIGHTS_FILE_OFFSET, threads);
    }
"#;

const EMBEDDED: &str = r#"    /// With the weights that lie in the library. `threads` is the largest number that run_parallel
    /// will be called with.
    explicit network(unsigned threads = 1) : network(&@NAME@_weights, threads) {}
"#;

const RUN: &str = r#"
    /// Runs the net on the calling thread.
    void run(std::span<const float, input_len> input, std::span<float, output_len> output) {
        check(try_run(input, output));
    }
    [[nodiscard]] int try_run(std::span<const float, input_len> input,
                              std::span<float, output_len> output) noexcept {
        return @NAME@_run_variant(variant_, input.data(), output.data(), workspace_.get(), weights_);
    }

    /// Runs the net with its work shared out: `parallel_for(count, task)` shall call task(i) for
    /// every i below count, on any threads, and return when all are done. An exception that it
    /// throws ends the program.
    template <class ParallelFor>
    void run_parallel(std::span<const float, input_len> input, std::span<float, output_len> output,
                      unsigned threads, ParallelFor &&parallel_for) {
        check(try_run_parallel(input, output, threads, parallel_for));
    }
    template <class ParallelFor>
    [[nodiscard]] int try_run_parallel(std::span<const float, input_len> input,
                                       std::span<float, output_len> output, unsigned threads,
                                       ParallelFor &&parallel_for) noexcept {
        if (threads > threads_) return @UPPER@_BAD_THREADS;
        auto call = [](void *context, @NAME@_task task, void *run, unsigned count) noexcept {
            auto &function = *static_cast<std::remove_reference_t<ParallelFor> *>(context);
            function(count, [task, run](unsigned index) { task(run, index); });
        };
        auto *context = const_cast<void *>(static_cast<const void *>(std::addressof(parallel_for)));
        return @NAME@_run_parallel(input.data(), output.data(), workspace_.get(), weights_, call,
                                   context, threads);
    }

    /// Name of a class, or nullptr.
    [[nodiscard]] static const char *label(int class_index) noexcept {
        return @NAME@_label(class_index);
    }
"#;

const PREPROCESS: &str = r#"
    /// Makes one image of the input of a picture of 3 bytes a pixel: red, green, blue.
    static void preprocess(std::span<const unsigned char> rgb, int height, int width,
                           std::span<float, image_len> image) {
        check(try_preprocess(rgb, height, width, image));
    }
    [[nodiscard]] static int try_preprocess(std::span<const unsigned char> rgb, int height,
                                            int width, std::span<float, image_len> image) noexcept {
        if (height < 1 || width < 1 ||
            rgb.size() / 3 / static_cast<std::size_t>(height) < static_cast<std::size_t>(width))
            return @UPPER@_BAD_PICTURE;
        return @NAME@_preprocess(rgb.data(), height, width, image.data());
    }
"#;

const SELF_TEST: &str = r#"
    /// Runs the net on an input of its own, and throws where the output is not what it should be.
    void self_test() {
        auto input = std::make_unique<float[]>(input_len);
        auto output = std::make_unique<float[]>(output_len);
        check(@NAME@_self_test(input.get(), output.get(), workspace_.get(), weights_));
    }
"#;

const END: &str = r#"
private:
    struct free_workspace {
        void operator()(std::byte *memory) const noexcept {
            ::operator delete[](memory, std::align_val_t{@UPPER@_ALIGNMENT});
        }
    };

    network(const void *weights, unsigned threads)
        : weights_(weights), threads_(threads), variant_(@NAME@_variant()) {
        check(@NAME@_check_cpu());
        if (threads < 1 || threads > @UPPER@_MAX_THREADS) throw error(@UPPER@_BAD_THREADS);
        std::size_t bytes = @UPPER@_PARALLEL_WORKSPACE_BYTES(threads);
        if (bytes < @UPPER@_WORKSPACE_BYTES) bytes = @UPPER@_WORKSPACE_BYTES;
        workspace_.reset(new (std::align_val_t{@UPPER@_ALIGNMENT}) std::byte[bytes + 1]);
    }

    static void check(int status) {
        if (status != @UPPER@_OK) throw error(status);
    }

    std::unique_ptr<std::byte[], free_workspace> workspace_;
    const void *weights_;
    unsigned threads_;
    int variant_;
};
"#;

const ERRORS: &str = r#"
inline const char *message(int status) noexcept {
    switch (status) {
    case @UPPER@_OK: return "all is well";
    case @UPPER@_NULL_POINTER: return "a pointer is null";
    case @UPPER@_MISALIGNED: return "workspace or weights are not aligned";
    case @UPPER@_NOT_WEIGHTS: return "this is no file of weights";
    case @UPPER@_OTHER_BUILD: return "these weights belong to another net or build";
    case @UPPER@_WRONG_LENGTH: return "the weights are truncated or too long";
    case @UPPER@_DAMAGED: return "the weights are damaged";
    case @UPPER@_UNSUPPORTED_CPU: return "this processor is too old for the net";
    case @UPPER@_BAD_THREADS: return "no such number of threads";
"#;

const BAD_PICTURE: &str = r#"    case @UPPER@_BAD_PICTURE: return "the picture cannot become the net's input";
"#;

const FAILED: &str = r#"    case @UPPER@_SELF_TEST_FAILED: return "the net does not compute what it should";
"#;

const LAST: &str = r#"    default: return "unknown status";
    }
}

} // namespace @NAMESPACE@

#endif
"#;
