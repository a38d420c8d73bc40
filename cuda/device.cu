#include "cuda/device.h"

#include <cstdio>
#include <cstring>
#include <mutex>
#include <vector>

#include "core/allocator.h"
#include "core/parallel.h"
#include "cuda/handle.h"
#include "cuda/launch.h"
#include "cuda/per_device.h"

namespace eq::cuda {

static std::string place(const char* call, const char* file, int line) {
  return std::string(call) + (line > 0 ? ", " + std::string(file) + ":" + std::to_string(line) : "");
}

void fail(const std::string& words, const char* call, const char* file, int line) {
  cudaGetLastError();  // forget it: the next call reports its own
  throw DeviceError("CUDA: " + words, place(call, file, line),
                    "run compute-sanitizer on the command, or set CUDA_LAUNCH_BLOCKING=1 to find the kernel");
}

void fail_for_memory(const std::string& words, const char* call, const char* file, int line) {
  cudaGetLastError();
  throw OutOfMemoryError("CUDA: " + words, place(call, file, line),
                         "a smaller batch (train.batch_size), crop or network; nvidia-smi shows who else holds the device's memory");
}

void fail_for_code(const std::string& words, const char* call, const char* file, int line) {
  cudaGetLastError();
  throw DeviceError("CUDA: " + words, place(call, file, line),
                    "build for this GPU with -DCMAKE_CUDA_ARCHITECTURES=native; it needs compute capability 8.0 or later, which doctor "
                    "shows, and a driver as new as the toolkit");
}

namespace {

struct Probe {
  int count = 0;
  std::string trouble;
};

// Looked at once: devices do not come and go.
const Probe& probe() {
  static const Probe result = [] {
    Probe probe;
    const cudaError_t status = cudaGetDeviceCount(&probe.count);
    if (status == cudaSuccess && probe.count > 0) return probe;
    probe.count = 0;
    cudaGetLastError();
    int driver = 0, runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    probe.trouble = trouble_words(driver, runtime, status == cudaSuccess ? "" : cudaGetErrorString(status));
    return probe;
  }();
  return result;
}

using Event = Handle<cudaEvent_t, cudaEventDestroy>;

// Page-locked host memory that uploads pass through, so that the host can go on at once. Two buffers take turns; each waits
// for its own last copy.
struct Staging {
  void* memory = nullptr;
  size_t bytes = 0;
  Event done;
};

struct PendingReport {
  int64_t* cell;
  std::function<void(int64_t, int64_t)> report;
};

struct DeviceState {
  explicit DeviceState(Device device) {
    check_exists(device);
    const int index = device.index;
    EQ_CUDA_CHECK(cudaSetDevice(index));
    EQ_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    for (Staging& buffer : staging) EQ_CUDA_CHECK(cudaEventCreateWithFlags(buffer.done.receive(), cudaEventDisableTiming));
  }
  cudaStream_t stream = nullptr;
  std::mutex mutex;  // of what follows
  Staging staging[2];
  int turn = 0;
  std::vector<int64_t*> free_cells;
  std::vector<PendingReport> reports;
};

// Makes the device the current one of this thread.
DeviceState& state_of(int index) {
  DeviceState& state = per_device<DeviceState>(Device::cuda(index));
  EQ_CUDA_CHECK(cudaSetDevice(index));
  return state;
}

// Uploads above this go through the staging buffers piece by piece: one is copied to the device while the next is filled.
constexpr size_t kStagingBytes = size_t{8} << 20;
constexpr size_t kGrainBytes = size_t{1} << 20;  // of a host thread: one alone fills a buffer slower than the device takes it

void copy_on_host(void* to, const void* from, size_t bytes) {
  parallel_for(int64_t((bytes + kGrainBytes - 1) / kGrainBytes), 1, [&](int64_t begin, int64_t end) {
    const size_t first = size_t(begin) * kGrainBytes, last = std::min(bytes, size_t(end) * kGrainBytes);
    std::memcpy(static_cast<char*>(to) + first, static_cast<const char*>(from) + first, last - first);
  });
}

// Waits for what is queued; throws what a kernel among that has found.
void wait(DeviceState& state) {
  std::vector<PendingReport> reports;
  {
    std::lock_guard lock(state.mutex);
    reports.swap(state.reports);
  }
  EQ_CUDA_CHECK(cudaStreamSynchronize(state.stream));
  std::vector<std::pair<int64_t, int64_t>> found;
  {
    std::lock_guard lock(state.mutex);
    for (const PendingReport& pending : reports) {
      found.emplace_back(pending.cell[0], pending.cell[1]);
      state.free_cells.push_back(pending.cell);
    }
  }
  for (size_t i = 0; i < found.size(); ++i) {
    if (found[i].first >= 0) reports[i].report(found[i].first, found[i].second);
  }
}

}  // namespace

int device_count() { return probe().count; }
std::string trouble() { return probe().trouble; }

std::string describe_device(int index) {
  cudaDeviceProp properties;
  EQ_CUDA_CHECK(cudaGetDeviceProperties(&properties, index));
  char text[512];
  std::snprintf(text, sizeof text, "%s, compute capability %d.%d, %.1f GiB", properties.name, properties.major, properties.minor,
                double(properties.totalGlobalMem) / double(1 << 30));
  return text;
}

cudaStream_t stream_of(Device device) { return state_of(device.index).stream; }

void make_room(Device device) {
  cudaGetLastError();
  allocator(device).release_cached();
}

static cudaError_t allocate_on_host(Device device, void** memory, size_t bytes) {
  return with_room(
      device, [&] { return cudaMallocHost(memory, bytes); }, [](cudaError_t status) { return status == cudaErrorMemoryAllocation; });
}

RawMemory memory(int index) {
  return {[index](size_t bytes) -> void* {
            state_of(index);  // makes it current
            void* block = nullptr;
            const cudaError_t status = cudaMalloc(&block, bytes);
            if (status == cudaErrorMemoryAllocation) return cudaGetLastError(), nullptr;
            check(status, "cudaMalloc", __FILE__, __LINE__);  // of a kernel before, perhaps
            return block;
          },
          [index](void* block) {
            // What was queued before may still use it: cudaFree waits for that.
            // Nothing is thrown: the allocator is between blocks that are freed and others that are not. An error that has come to stay is
            // every later call's as well.
            const bool current = cudaSetDevice(index) == cudaSuccess;
            if (cudaFree(block) != cudaSuccess || !current) cudaGetLastError();
          }};
}

void copy_to_device(void* to, const void* from, size_t bytes, int index) {
  DeviceState& state = state_of(index);
  std::lock_guard lock(state.mutex);
  for (size_t done = 0; done < bytes;) {
    const size_t piece = std::min(bytes - done, kStagingBytes);
    Staging& buffer = state.staging[state.turn];
    state.turn = 1 - state.turn;
    EQ_CUDA_CHECK(cudaEventSynchronize(buffer.done.get()));
    if (buffer.bytes < piece) {
      if (buffer.memory != nullptr) EQ_CUDA_CHECK(cudaFreeHost(buffer.memory));
      buffer.memory = nullptr, buffer.bytes = 0;
      EQ_CUDA_CHECK(allocate_on_host(Device::cuda(index), &buffer.memory, piece));
      buffer.bytes = piece;
    }
    copy_on_host(buffer.memory, static_cast<const char*>(from) + done, piece);
    EQ_CUDA_CHECK(cudaMemcpyAsync(static_cast<char*>(to) + done, buffer.memory, piece, cudaMemcpyHostToDevice, state.stream));
    EQ_CUDA_CHECK(cudaEventRecord(buffer.done.get(), state.stream));
    done += piece;
  }
}

void copy_to_host(void* to, const void* from, size_t bytes, int index) {
  DeviceState& state = state_of(index);
  if (bytes > 0) EQ_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, state.stream));
  wait(state);
}

void copy_on_device(void* to, const void* from, size_t bytes, int index) {
  DeviceState& state = state_of(index);
  if (bytes > 0 && to != from) EQ_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, state.stream));
}

void copy_between_devices(void* to, int to_index, const void* from, int from_index, size_t bytes) {
  synchronize(from_index);
  DeviceState& state = state_of(to_index);
  if (bytes > 0) EQ_CUDA_CHECK(cudaMemcpyPeerAsync(to, to_index, from, from_index, bytes, state.stream));
  synchronize(to_index);
}

void synchronize(int index) {
  DeviceState& state = state_of(index);
  wait(state);
}

constexpr size_t kCells = 256;  // page-locked at once

int64_t* report_cell(Device device) {
  DeviceState& state = state_of(device.index);
  std::lock_guard lock(state.mutex);
  if (state.free_cells.empty()) {
    void* memory = nullptr;
    EQ_CUDA_CHECK(allocate_on_host(device, &memory, kCells * 2 * sizeof(int64_t)));
    for (size_t i = 0; i < kCells; ++i) state.free_cells.push_back(static_cast<int64_t*>(memory) + 2 * i);
  }
  int64_t* cell = state.free_cells.back();
  state.free_cells.pop_back();
  return cell;
}

void report_later(Device device, int64_t* cell, std::function<void(int64_t, int64_t)> report) {
  DeviceState& state = state_of(device.index);
  std::lock_guard lock(state.mutex);
  state.reports.push_back({cell, std::move(report)});
}

unsigned blocks_for(int64_t count, int64_t size) {
  const int64_t blocks = (count + size - 1) / size;
  if (blocks > 0x7fffffff) {
    throw UsageError("a kernel over " + std::to_string(count) + " items has more blocks than a grid can hold", "CUDA",
                     "use a smaller batch");
  }
  return unsigned(blocks);
}

}  // namespace eq::cuda
