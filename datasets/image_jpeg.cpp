// JPEG through libjpeg-turbo. The library reports errors through a callback that must not return: it jumps back with
// longjmp. So every function below that calls setjmp has only plain data in its frame, and all C++ objects belong to
// its caller.

#include <csetjmp>
#include <cstdio>
#include <cstring>

#include <jpeglib.h>

#include <jerror.h>

#include "core/limits.h"
#include "datasets/image_decoders.h"

namespace eq::detail {
namespace {

class Decompressor {
 public:
  // Delegates, so that the destructor runs when the header is refused.
  Decompressor(std::span<const uint8_t> bytes, const std::string& name) : Decompressor(name) {
    if (!read_header(bytes.data(), bytes.size())) refuse();
  }
  ~Decompressor() { jpeg_destroy_decompress(&info_); }
  Decompressor(const Decompressor&) = delete;

  const jpeg_decompress_struct& info() const { return info_; }

  // Rows of RGB; `row` holds one row of CMYK, or is null for the other colour spaces.
  void decode(uint8_t* rgb, uint8_t* row) {
    if (!decode_rows(rgb, row)) refuse();
  }

 private:
  explicit Decompressor(const std::string& name) : name_(name) {}

  static Decompressor& self(void* client) { return *static_cast<Decompressor*>(client); }

  [[noreturn]] void refuse() const { refuse_picture(name_, std::string("damaged JPEG: ") + message_); }

  [[noreturn]] static void on_error(j_common_ptr info) {
    info->err->format_message(info, self(info->client_data).message_);
    std::longjmp(self(info->client_data).jump_, 1);
  }

  // The library goes on after damage and fills the rest with gray. For training data that is an error; harmless
  // oddities are not.
  static void on_warning(j_common_ptr info, int level) {
    if (level >= 0) return;
    switch (info->err->msg_code) {
      case JWRN_JPEG_EOF:
      case JWRN_HIT_MARKER:
      case JWRN_HUFF_BAD_CODE:
      case JWRN_ARITH_BAD_CODE:
      case JWRN_MUST_RESYNC: on_error(info);
      default: ++info->err->num_warnings;
    }
  }

  static void on_output(j_common_ptr) {}

  // A small progressive file can hold thousands of scans over a large picture.
  static void on_progress(j_common_ptr info) {
    if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number > limits::kJpegScans) {
      std::snprintf(self(info->client_data).message_, JMSG_LENGTH_MAX, "more than %d scans", limits::kJpegScans);
      std::longjmp(self(info->client_data).jump_, 1);
    }
  }

  bool read_header(const uint8_t* bytes, size_t count) {
    info_.err = jpeg_std_error(&errors_);
    info_.client_data = this;
    errors_.error_exit = on_error;
    errors_.emit_message = on_warning;
    errors_.output_message = on_output;
    if (setjmp(jump_)) return false;
    jpeg_create_decompress(&info_);
    progress_.progress_monitor = on_progress;
    info_.progress = &progress_;
    jpeg_mem_src(&info_, bytes, static_cast<unsigned long>(count));
    jpeg_save_markers(&info_, JPEG_APP0 + 1, 0xFFFF);  // EXIF
    jpeg_read_header(&info_, TRUE);
    return true;
  }

  bool decode_rows(uint8_t* rgb, uint8_t* row) {
    if (setjmp(jump_)) return false;
    info_.out_color_space = row != nullptr ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(&info_);
    const size_t stride = size_t(info_.output_width) * 3;
    while (info_.output_scanline < info_.output_height) {
      uint8_t* out = rgb + stride * info_.output_scanline;
      JSAMPROW target = row != nullptr ? row : out;
      jpeg_read_scanlines(&info_, &target, 1);
      if (row != nullptr) cmyk_to_rgb(row, out);
    }
    jpeg_finish_decompress(&info_);
    return true;
  }

  // Adobe's programs store the complement: 255 is no ink.
  void cmyk_to_rgb(const uint8_t* cmyk, uint8_t* rgb) const {
    const int flip = info_.saw_Adobe_marker ? 0 : 255;
    for (size_t x = 0; x < info_.output_width; ++x) {
      for (int c = 0; c < 3; ++c)
        rgb[3 * x + c] = uint8_t(((cmyk[4 * x + c] ^ flip) * (cmyk[4 * x + 3] ^ flip) + 127) / 255);
    }
  }

  const std::string& name_;
  jpeg_decompress_struct info_{};
  jpeg_error_mgr errors_{};
  jpeg_progress_mgr progress_{};
  std::jmp_buf jump_;
  char message_[JMSG_LENGTH_MAX] = "";
};

int orientation_of(const jpeg_decompress_struct& info) {
  constexpr char kSignature[6] = {'E', 'x', 'i', 'f', 0, 0};
  for (jpeg_saved_marker_ptr marker = info.marker_list; marker != nullptr; marker = marker->next) {
    if (marker->data_length > sizeof kSignature && std::memcmp(marker->data, kSignature, sizeof kSignature) == 0) {
      return exif_orientation({marker->data + sizeof kSignature, marker->data_length - sizeof kSignature});
    }
  }
  return 1;
}

PictureInfo described(const jpeg_decompress_struct& info, const std::string& name, size_t file_bytes) {
  PictureInfo result;
  result.format = "jpeg";
  result.height = info.image_height;
  result.width = info.image_width;
  result.bits = info.data_precision;
  if (info.data_precision != 8)
    refuse_picture(name, "JPEG with " + std::to_string(info.data_precision) + " bits is not supported");
  switch (info.jpeg_color_space) {
    case JCS_GRAYSCALE: result.mode = "gray"; break;
    case JCS_RGB:
    case JCS_YCbCr: result.mode = "RGB"; break;
    case JCS_CMYK:
    case JCS_YCCK: result.mode = "CMYK"; break;
    default: refuse_picture(name, "JPEG with " + std::to_string(info.num_components) + " components is not supported");
  }
  // Huffman coding spends at least one bit on each block of 8 x 8 pixels.
  const uint64_t pixels = uint64_t(info.image_height) * info.image_width;
  check_picture(name, result.height, result.width, file_bytes, info.arith_code ? 0 : pixels / 512);
  return result;
}

}  // namespace

PictureInfo probe_jpeg(std::span<const uint8_t> bytes, const std::string& name) {
  const Decompressor decompressor(bytes, name);
  PictureInfo info = described(decompressor.info(), name, bytes.size());
  info.turned = orientation_of(decompressor.info()) >= 5;
  if (info.turned) std::swap(info.height, info.width);
  return info;
}

Samples decode_jpeg(std::span<const uint8_t> bytes, const std::string& name) {
  Decompressor decompressor(bytes, name);
  const PictureInfo info = described(decompressor.info(), name, bytes.size());
  Samples samples;
  samples.height = info.height;
  samples.width = info.width;
  samples.orientation = orientation_of(decompressor.info());
  samples.values.resize(size_t(info.height * info.width) * 3);
  std::vector<uint8_t> row(info.mode == "CMYK" ? size_t(info.width) * 4 : 0);
  decompressor.decode(samples.values.data(), row.empty() ? nullptr : row.data());
  return samples;
}

}  // namespace eq::detail
