// PNG through libpng's row interface. As with JPEG, errors come back by longjmp: the functions that call setjmp have
// only plain data in their frames.

#include <png.h>

#include <csetjmp>
#include <cstring>

#include "core/limits.h"
#include "datasets/image_decoders.h"

namespace eq::detail {
namespace {

struct Message {
  char text[160] = "";
};

[[noreturn]] void on_error(png_structp png, png_const_charp text) {
  auto* message = static_cast<Message*>(png_get_error_ptr(png));
  std::strncpy(message->text, text, sizeof message->text - 1);
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

class Reader {
 public:
  // Delegates, so that the destructor runs when the header is refused.
  Reader(std::span<const uint8_t> bytes, const std::string& name) : Reader(name, bytes) {
    check_declared_size();
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &message_, on_error, on_warning);
    if (png_ == nullptr) throw Error("libpng cannot be started", name, "check the installed libpng");
    if (!read_header()) refuse();
  }
  ~Reader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  Reader(const Reader&) = delete;

  int64_t height() const { return height_; }
  int64_t width() const { return width_; }
  int bits() const { return bits_; }
  int color() const { return color_; }
  bool is_gray() const { return color_ == PNG_COLOR_TYPE_GRAY || color_ == PNG_COLOR_TYPE_GRAY_ALPHA; }

  Palette palette() const {
    png_colorp colors = nullptr;
    int count = 0;
    Palette palette;
    if (png_get_PLTE(png_, info_, &colors, &count) != 0) {
      for (int i = 0; i < count; ++i) palette.push_back({colors[i].red, colors[i].green, colors[i].blue});
    }
    return palette;
  }

  int orientation() const {
    png_bytep exif = nullptr;
    png_uint_32 count = 0;
    return png_get_eXIf_1(png_, info_, &count, &exif) != 0 ? exif_orientation({exif, count}) : 1;
  }

  // [height, width, channels]: one byte a channel, alpha dropped, low-bit grays and indices unscaled; 16-bit channels
  // stay two bytes, high byte first, when `wide`.
  std::vector<uint8_t> values(bool wide) {
    size_t stride = 0;
    if (!prepare(wide, &stride)) refuse();
    std::vector<uint8_t> values(stride * size_t(height_));
    std::vector<png_bytep> rows(
        static_cast<size_t>(height_));  // all at once, because interlaced files fill rows in seven passes
    for (size_t y = 0; y < rows.size(); ++y) rows[y] = values.data() + stride * y;
    if (!read_rows(rows.data())) refuse();
    return values;
  }

 private:
  Reader(const std::string& name, std::span<const uint8_t> bytes) : name_(name), left_(bytes) {}

  [[noreturn]] void refuse() const { refuse_picture(name_, std::string("damaged PNG: ") + message_.text); }

  static void next_bytes(png_structp png, png_bytep out, size_t count) {
    auto& left = *static_cast<std::span<const uint8_t>*>(png_get_io_ptr(png));
    if (count > left.size()) png_error(png, "the file ends too early");
    std::memcpy(out, left.data(), count);
    left = left.subspan(count);
  }

  // Before libpng sees the file, so that the message gives the size.
  void check_declared_size() const {
    auto number = [&](size_t at) {
      return int64_t(left_[at]) << 24 | int64_t(left_[at + 1]) << 16 | int64_t(left_[at + 2]) << 8 |
             int64_t(left_[at + 3]);
    };
    constexpr size_t kHeaderBytes = 26;  // signature, chunk length and type, width, height, bits, colour type
    if (left_.size() < kHeaderBytes) refuse_picture(name_, "damaged PNG: the file ends in its header");
    const int64_t width = number(16), height = number(20);
    const int bits = left_[24], color = left_[25];
    const uint64_t channels = (color & PNG_COLOR_MASK_COLOR && !(color & PNG_COLOR_MASK_PALETTE) ? 3 : 1) +
                              (color & PNG_COLOR_MASK_ALPHA ? 1 : 0);
    // Deflate makes at most 1032 bytes of one.
    const uint64_t row_bytes = uint64_t(width) * channels * uint64_t(bits) / 8;
    check_picture(name_, height, width, left_.size(), uint64_t(height) * row_bytes / 1032);
  }

  bool read_header() {
    if (setjmp(png_jmpbuf(png_))) return false;
    info_ = png_create_info_struct(png_);
    if (info_ == nullptr) png_error(png_, "no memory");
    png_set_read_fn(png_, &left_, next_bytes);
    png_set_user_limits(png_, png_uint_32(limits::kPictureSide), png_uint_32(limits::kPictureSide));
    png_set_chunk_cache_max(png_, 64);
    png_set_chunk_malloc_max(png_, png_alloc_size_t{8} << 20);
    // What we have no use for is skipped: texts, colour profiles, physical sizes.
    static const png_byte kSkipped[] =
        "bKGD\0cHRM\0gAMA\0hIST\0iCCP\0iTXt\0oFFs\0pCAL\0pHYs\0sBIT\0sCAL\0sPLT\0sRGB\0tEXt\0tIME\0tRNS\0zTXt";
    png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, kSkipped, int(sizeof kSkipped / 5));
    png_read_info(png_, info_);
    height_ = png_get_image_height(png_, info_);
    width_ = png_get_image_width(png_, info_);
    bits_ = png_get_bit_depth(png_, info_);
    color_ = png_get_color_type(png_, info_);
    return true;
  }

  bool prepare(bool wide, size_t* stride) {
    if (setjmp(png_jmpbuf(png_))) return false;
    png_set_packing(png_);
    if (!wide) png_set_strip_16(png_);
    png_set_strip_alpha(png_);
    png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    *stride = png_get_rowbytes(png_, info_);
    return true;
  }

  bool read_rows(png_bytep* rows) {
    if (setjmp(png_jmpbuf(png_))) return false;
    png_read_image(png_, rows);
    png_read_end(png_, nullptr);  // checks the rest of the file
    return true;
  }

  const std::string& name_;
  std::span<const uint8_t> left_;
  Message message_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  int64_t height_ = 0, width_ = 0;
  int bits_ = 0, color_ = 0;
};

class Writer {
 public:
  Writer() {
    png_ = png_create_write_struct(PNG_LIBPNG_VER_STRING, &message_, on_error, on_warning);
    if (png_ == nullptr) throw Error("libpng cannot be started", "encode_png", "check the installed libpng");
  }
  ~Writer() { png_destroy_write_struct(&png_, &info_); }
  Writer(const Writer&) = delete;

  std::vector<uint8_t> encode(int64_t height, int64_t width, const uint8_t* values, const Palette* palette) {
    std::vector<png_color> colors;
    if (palette != nullptr) {
      for (const Color& color : *palette) colors.push_back({color[0], color[1], color[2]});
    }
    if (!write(png_uint_32(height), png_uint_32(width), values, colors.data(), int(colors.size()))) {
      throw Error(std::string("a PNG cannot be made: ") + message_.text, "encode_png", "check the memory");
    }
    return std::move(bytes_);
  }

 private:
  static void take_bytes(png_structp png, png_bytep data, size_t count) {
    auto& bytes = *static_cast<std::vector<uint8_t>*>(png_get_io_ptr(png));
    bool taken = true;
    try {
      bytes.insert(bytes.end(), data, data + count);
    } catch (...) {
      taken = false;
    }
    if (!taken) png_error(png, "no memory");
  }

  bool write(png_uint_32 height, png_uint_32 width, const uint8_t* values, const png_color* colors, int color_count) {
    if (setjmp(png_jmpbuf(png_))) return false;
    info_ = png_create_info_struct(png_);
    if (info_ == nullptr) png_error(png_, "no memory");
    png_set_write_fn(png_, &bytes_, take_bytes, nullptr);
    const int color_type = color_count > 0 ? PNG_COLOR_TYPE_PALETTE : PNG_COLOR_TYPE_RGB;
    png_set_IHDR(png_, info_, width, height, 8, color_type, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    if (color_count > 0) png_set_PLTE(png_, info_, colors, color_count);
    png_write_info(png_, info_);
    const size_t stride = size_t(width) * (color_count > 0 ? 1 : 3);
    for (png_uint_32 y = 0; y < height; ++y) png_write_row(png_, values + stride * y);
    png_write_end(png_, nullptr);
    return true;
  }

  Message message_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  std::vector<uint8_t> bytes_;
};

}  // namespace

PictureInfo probe_png(std::span<const uint8_t> bytes, const std::string& name) {
  const Reader reader(bytes, name);
  PictureInfo info{"png", "RGB", reader.height(), reader.width(), reader.bits()};
  switch (reader.color()) {
    case PNG_COLOR_TYPE_GRAY: info.mode = "gray"; break;
    case PNG_COLOR_TYPE_GRAY_ALPHA: info.mode = "gray+alpha"; break;
    case PNG_COLOR_TYPE_PALETTE: info.mode = "indexed"; break;
    case PNG_COLOR_TYPE_RGB_ALPHA: info.mode = "RGBA"; break;
    default: break;
  }
  info.turned = reader.orientation() >= 5;
  if (info.turned) std::swap(info.height, info.width);
  return info;
}

Samples decode_png(std::span<const uint8_t> bytes, const std::string& name, Purpose purpose) {
  Reader reader(bytes, name);
  Samples samples;
  samples.height = reader.height();
  samples.width = reader.width();
  samples.orientation = reader.orientation();
  samples.indexed = reader.color() == PNG_COLOR_TYPE_PALETTE;
  samples.channels = samples.indexed || reader.is_gray() ? 1 : 3;
  samples.largest = reader.bits() >= 8 ? 255 : (1 << reader.bits()) - 1;
  samples.palette = reader.palette();
  const bool wide = purpose == Purpose::kLabels && reader.is_gray() && reader.bits() == 16;
  samples.values = reader.values(wide);
  if (wide) samples.values = narrowed_labels(samples.values, samples.width, name);
  return samples;
}

std::vector<uint8_t> encode_png(int64_t height, int64_t width, const uint8_t* values, const Palette* palette) {
  return Writer().encode(height, width, values, palette);
}

}  // namespace eq::detail
