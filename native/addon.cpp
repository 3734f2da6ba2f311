// Binds devices, buffers and the kernel table to JavaScript. It knows no kernel by name: each entry of the table becomes a
// function whose arguments are converted by their C++ types.
#include <napi.h>
#include <algorithm>
#include <optional>
#include <tuple>
#include "recording.h"

namespace turl {
namespace {

struct Addon {
  std::vector<std::unique_ptr<Device>> devices;
  BufferTable buffers;
  std::vector<std::shared_ptr<Recording>> recordings;  // a forgotten one leaves a null pointer
};
Addon& state(Napi::Env env) { return *env.GetInstanceData<Addon>(); }

Napi::Error error(Napi::Env env, const char* code, const std::string& message) {
  Napi::Error e = Napi::Error::New(env, message);
  e.Set("code", Napi::String::New(env, code));
  return e;
}

Device& device_of(const Napi::CallbackInfo& info) {
  auto& devices = state(info.Env()).devices;
  size_t index = info[0].As<Napi::Number>().Uint32Value();
  if (index >= devices.size()) throw error(info.Env(), "TURL_NATIVE", "no such device");
  return *devices[index];
}

bool is_array(Napi::Value value, napi_typedarray_type type) {
  return value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == type;
}

// One converter for each argument type of a kernel.
template <class T> Argument<T> argument(Addon&, Device& device, Napi::Value value) {
  if (value.IsNumber()) return {value.As<Napi::Number>().DoubleValue()};
  if (!is_array(value, napi_float64_array) || value.As<Napi::Float64Array>().ElementLength() != 1)
    throw std::runtime_error("expected a number");
  auto array = value.As<Napi::Float64Array>();
  if (device.recording)
    device.recording->numbers.push_back(std::make_shared<Napi::ObjectReference>(Napi::Persistent(array.As<Napi::Object>())));
  return {0, array.Data()};
}
Buffer& buffer_of(Addon& addon, Device& device, double handle) {
  Buffer& b = addon.buffers.get(handle);
  if (b.device != &device)
    throw std::runtime_error("a tensor is on " + b.device->name + ", the kernel runs on " + device.name);
  return b;
}
// The buffer's number in the recording under way, or -1 if it was made before.
int32_t block_of(const Buffer& b) { return b.recording && b.recording == b.device->recording ? b.block : -1; }
Buffer& buffer_argument(Addon& addon, Device& device, Napi::Value value) {
  if (!value.IsNumber()) throw std::runtime_error("expected a tensor");
  return buffer_of(addon, device, value.As<Napi::Number>().DoubleValue());
}
// The handles of several tensors.
template <class List> Argument<List> list_argument(Addon& addon, Device& device, Napi::Value value) {
  if (!is_array(value, napi_float64_array)) throw std::runtime_error("expected a list of tensors");
  auto handles = value.As<Napi::Float64Array>();
  Argument<List> result;
  for (size_t i = 0; i < handles.ElementLength(); i++) {
    Buffer& b = buffer_of(addon, device, handles[i]);
    result.value.list.push_back({b.data, b.size, b.dtype});
    result.blocks.push_back(block_of(b));
  }
  return result;
}
template <> Argument<InList> argument<InList>(Addon& addon, Device& device, Napi::Value value) {
  return list_argument<InList>(addon, device, value);
}
template <> Argument<OutList> argument<OutList>(Addon& addon, Device& device, Napi::Value value) {
  return list_argument<OutList>(addon, device, value);
}
template <> Argument<In> argument<In>(Addon& addon, Device& device, Napi::Value value) {
  Buffer& b = buffer_argument(addon, device, value);
  return {{b.data, b.size, b.dtype}, block_of(b)};
}
template <> Argument<Out> argument<Out>(Addon& addon, Device& device, Napi::Value value) {
  Buffer& b = buffer_argument(addon, device, value);
  return {{b.data, b.size, b.dtype}, block_of(b)};
}
// The handle 0 stands for an array that is left out.
template <class Maybe> Argument<Maybe> maybe_argument(Addon& addon, Device& device, Napi::Value value) {
  if (value.IsNumber() && value.As<Napi::Number>().DoubleValue() == 0) return {{{nullptr, 0, DType::float32}}, -1};
  Buffer& b = buffer_argument(addon, device, value);
  return {{{b.data, b.size, b.dtype}}, block_of(b)};
}
template <> Argument<MaybeIn> argument<MaybeIn>(Addon& addon, Device& device, Napi::Value value) {
  return maybe_argument<MaybeIn>(addon, device, value);
}
template <> Argument<MaybeOut> argument<MaybeOut>(Addon& addon, Device& device, Napi::Value value) {
  return maybe_argument<MaybeOut>(addon, device, value);
}
template <> [[maybe_unused]] Argument<Ints> argument<Ints>(Addon&, Device&, Napi::Value value) {
  if (!is_array(value, napi_int32_array)) throw std::runtime_error("expected an Int32Array");
  auto array = value.As<Napi::Int32Array>();
  return {{array.Data(), int64_t(array.ElementLength())}, {}};
}

struct OutOfMemory : std::runtime_error {
  size_t bytes;
  explicit OutOfMemory(size_t bytes) : std::runtime_error("out of memory"), bytes(bytes) {}
};

void* take_scratch(void* owner, size_t bytes) {
  auto& device = *static_cast<Device*>(owner);
  if (device.replaying) {
    char* data = device.replay_scratch;
    if (aligned(bytes) > size_t(device.replay_end - data)) throw std::logic_error("a replay took more memory than its recording");
    device.replay_scratch += aligned(bytes);
    return data;
  }
  void* data = device.pool->take(bytes);
  if (!data) throw OutOfMemory(bytes);
  device.scratch.emplace_back(data, bytes);
  return data;
}
void give_scratch(Device& device) {
  size_t total = 0;
  for (auto& [data, bytes] : device.scratch) {
    total += aligned(bytes);
    device.pool->give(data, bytes);
  }
  device.scratch.clear();
  device.scratch_peak = std::max(device.scratch_peak, int64_t(total));
}

// Calls f, which runs kernels. What a kernel throws becomes an error of JavaScript that begins with `name`, which f may have changed.
template <class F> void guarded(Napi::Env env, Device& device, const char* const& name, F&& f) {
  std::optional<Napi::Error> failed;
  try {
    f();
  } catch (const OutOfMemory& e) {
    failed = error(env, "TURL_OUT_OF_MEMORY", std::string(name) + ": out of memory");
    failed->Set("bytes", Napi::Number::New(env, double(e.bytes)));
  } catch (const std::exception& e) {
    failed = error(env, "TURL_NATIVE", std::string(name) + ": " + e.what());
  }
  give_scratch(device);
  if (failed) throw *failed;
}

template <class... A, size_t... I>
void invoke(const Napi::CallbackInfo& info, Device& device, const char* name, void (*kernel)(Context&, A...),
            std::index_sequence<I...>) {
  Addon& addon = state(info.Env());
  // Braces fix the order in which the arguments are converted.
  KernelCall<A...> made(name, kernel, std::tuple<Argument<A>...>{argument<A>(addon, device, info[I])...});
  made.run(device.backend->context());
  if (!device.recording) return;
  made.keep();
  device.recording->note(std::make_unique<KernelCall<A...>>(std::move(made)));
}
// info.Data() is the device; Field is the table's member.
template <auto Field, class... A>
Napi::Value call(const Napi::CallbackInfo& info, void (*KernelTable::*)(Context&, A...), const char* name) {
  Device& device = *static_cast<Device*>(info.Data());
  guarded(info.Env(), device, name, [&] {
    if (info.Length() != sizeof...(A))
      throw std::runtime_error("expected " + std::to_string(sizeof...(A)) + " arguments, got " + std::to_string(info.Length()));
    device.calls++;
    invoke(info, device, name, device.backend->kernels->*Field, std::index_sequence_for<A...>{});
  });
  return info.Env().Undefined();
}

// openDevice(library, name): { index, kernels }; kernels that the backend lacks are left out
Napi::Value open_device(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto device = std::make_unique<Device>();
  try {
    device->backend = open_backend(info[0].As<Napi::String>());
  } catch (const std::exception& e) {
    throw error(env, "TURL_NO_DEVICE", e.what());
  }
  device->name = info[1].As<Napi::String>();
  device->pool = std::make_unique<Pool>(*device->backend);
  device->backend->scratch = take_scratch;
  device->backend->scratch_owner = device.get();
  Napi::Object kernels = Napi::Object::New(env);
#define TURL_BIND(name, arguments)                                                                   \
  if (device->backend->kernels->name)                                                                \
    kernels.Set(#name, Napi::Function::New(                                                          \
                           env, [](const Napi::CallbackInfo& i) { return call<&KernelTable::name>(i, &KernelTable::name, #name); }, \
                           #name, device.get()));
  TURL_KERNELS(TURL_BIND)
#undef TURL_BIND
  auto& devices = state(env).devices;
  Napi::Object result = Napi::Object::New(env);
  result.Set("index", double(devices.size()));
  result.Set("kernels", kernels);
  devices.push_back(std::move(device));
  return result;
}

// signatures(): { name: "(Out y, In x, ...)" }, the text of kernels.h
Napi::Value signatures(const Napi::CallbackInfo& info) {
  Napi::Object result = Napi::Object::New(info.Env());
#define TURL_SIGNATURE(name, arguments) result.Set(#name, #arguments);
  TURL_KERNELS(TURL_SIGNATURE)
#undef TURL_SIGNATURE
  return result;
}

// allocate(device, elements, dtype): handle, or 0 when there is no memory
Napi::Value allocate(const Napi::CallbackInfo& info) {
  Device& device = device_of(info);
  int64_t size = info[1].As<Napi::Number>().Int64Value();
  auto dtype = DType(info[2].As<Napi::Number>().Int32Value());
  void* data = device.pool->take(size_t(size) * bytes_of(dtype));
  if (!data) return Napi::Number::New(info.Env(), 0);
  return Napi::Number::New(info.Env(), state(info.Env()).buffers.add(&device, data, size, dtype));
}

Napi::Value release(const Napi::CallbackInfo& info) {
  Addon& addon = state(info.Env());
  double handle = info[0].As<Napi::Number>().DoubleValue();
  addon.buffers.remove(handle);
  return info.Env().Undefined();
}

// During a recording, what a replay could not repeat is an error.
void expect_no_recording(const Device& device, const char* what) {
  if (device.recording) throw std::runtime_error(std::string(what) + " while work is recorded: a replay would not do it");
}

// transfer(handle, typedArray, toDevice): copies the whole buffer; the array must have exactly its bytes.
Napi::Value transfer(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto array = info[1].As<Napi::TypedArray>();
  char* host = static_cast<char*>(array.ArrayBuffer().Data()) + array.ByteOffset();
  Buffer& b = state(env).buffers.get(info[0].As<Napi::Number>().DoubleValue());
  size_t bytes = size_t(b.size) * bytes_of(b.dtype);
  expect_no_recording(*b.device, "a copy from or to the host");
  if (array.ByteLength() != bytes)
    throw std::runtime_error("a copy expected " + std::to_string(bytes) + " bytes, got " + std::to_string(array.ByteLength()));
  if (info[2].As<Napi::Boolean>().Value()) b.device->backend->write(b.data, host, bytes);
  else b.device->backend->read(host, b.data, bytes);
  return env.Undefined();
}

// statistics(device): bytes and counts
Napi::Value statistics(const Napi::CallbackInfo& info) {
  Device& d = device_of(info);
  Napi::Object result = Napi::Object::New(info.Env());
  auto set = [&](const char* key, int64_t value) { result.Set(key, double(value)); };
  set("live", d.pool->live), set("peak", d.pool->peak), set("cached", d.pool->cached), set("limit", d.pool->limit);
  set("scratchPeak", d.scratch_peak), set("systemAllocations", d.pool->allocations), set("kernelCalls", d.calls);
  set("launches", d.backend->context().launches);
  set("memoryTotal", d.backend->memory_total()), set("memoryAvailable", d.backend->memory_available());
  result.Set("matrixUnits", d.backend->matrix_units);
  result.Set("threads", double(d.backend->context().threads));
  result.Set("description", d.backend->describe());
  return result;
}

// configure(device, { limit?, threads?, resetPeak?, trim? })
Napi::Value configure(const Napi::CallbackInfo& info) {
  Device& d = device_of(info);
  auto options = info[1].As<Napi::Object>();
  if (options.Has("limit")) d.pool->limit = options.Get("limit").As<Napi::Number>().Int64Value();
  if (options.Has("threads")) d.backend->set_threads(options.Get("threads").As<Napi::Number>().Int32Value());
  if (options.Has("resetPeak")) d.pool->peak = d.pool->live;
  if (options.Has("trim")) d.pool->trim();
  return info.Env().Undefined();
}

Napi::Value synchronize(const Napi::CallbackInfo& info) {
  device_of(info).backend->synchronize();
  return info.Env().Undefined();
}

Recording& recording_of(const Napi::CallbackInfo& info) {
  auto& recordings = state(info.Env()).recordings;
  size_t index = info[0].As<Napi::Number>().Uint32Value();
  if (index >= recordings.size() || !recordings[index]) throw error(info.Env(), "TURL_NATIVE", "no such recording");
  return *recordings[index];
}

// record(device): the number of a new recording, which notes nothing yet
Napi::Value record(const Napi::CallbackInfo& info) {
  auto& recordings = state(info.Env()).recordings;
  recordings.push_back(std::make_shared<Recording>(device_of(info)));
  return Napi::Number::New(info.Env(), double(recordings.size() - 1));
}

// listen(recording, on): true: from now on, kernel calls of the recording's device go into a new section of it; false: they no longer do
Napi::Value listen(const Napi::CallbackInfo& info) {
  Recording& r = recording_of(info);
  const bool on = info[1].As<Napi::Boolean>().Value();
  if (on && r.device.recording) throw error(info.Env(), "TURL_NATIVE", "another recording is under way");
  if (on && r.planned()) throw error(info.Env(), "TURL_NATIVE", "the recording has been replayed: it notes nothing more");
  if (on) r.sections.emplace_back();
  if (on) r.device.recording = state(info.Env()).recordings[info[0].As<Napi::Number>().Uint32Value()];
  else r.device.recording.reset();
  return info.Env().Undefined();
}

// plan(recording): allocates the memory that replays need; false when there is not enough
Napi::Value plan(const Napi::CallbackInfo& info) {
  Recording& r = recording_of(info);
  return Napi::Boolean::New(info.Env(), r.planned() || r.plan());
}

// replay(recording, section): repeats the section's kernel calls
Napi::Value replay(const Napi::CallbackInfo& info) {
  Recording& r = recording_of(info);
  size_t index = info[1].As<Napi::Number>().Uint32Value();
  if (index >= r.sections.size() || !r.planned()) throw error(info.Env(), "TURL_NATIVE", "no section to replay");
  auto& [calls, graphs] = r.sections[index];
  graphs.resize((calls.size() + Recording::calls_of_graph - 1) / Recording::calls_of_graph);
  Device& device = r.device;
  Context& context = device.backend->context();
  const char* name = "a replay";
  struct Restore {
    Device& device;
    ~Restore() { device.replaying = false; }
  } restore{device};
  device.replaying = true;
  guarded(info.Env(), device, name, [&] {
    for (size_t g = 0; g < graphs.size(); g++)
      device.backend->again(graphs[g], [&] {
        const size_t first = g * Recording::calls_of_graph, end = std::min(first + Recording::calls_of_graph, calls.size());
        for (size_t i = first; i < end; i++) {
          const Call& one = *calls[i];
          name = one.name;
          device.calls++;
          device.replay_scratch = one.scratch, device.replay_end = one.scratch + one.scratch_bytes;
          one.run(context);
        }
      });
  });
  return info.Env().Undefined();
}

// forget(recording): its memory is given back as soon as all tensors that were made in it are freed
Napi::Value forget(const Napi::CallbackInfo& info) {
  Recording& r = recording_of(info);
  if (r.device.recording.get() == &r) r.device.recording.reset();
  try {
    r.device.backend->synchronize();
  } catch (const std::exception&) {  // the device has failed: its next call reports that, and this one may be cleaning up after it
  }
  state(info.Env()).recordings[info[0].As<Napi::Number>().Uint32Value()].reset();
  return info.Env().Undefined();
}

// cpuLibrary(): the best CPU backend for this processor, or the one TURL_ISA names
Napi::Value cpu_library(const Napi::CallbackInfo& info) {
  std::vector<std::string> usable{"baseline"};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) usable.push_back("avx2");
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    usable.push_back("avx512");
#endif
  std::string isa = usable.back();
  if (const char* wanted = std::getenv("TURL_ISA"); wanted && *wanted) isa = wanted;
  if (std::find(usable.begin(), usable.end(), isa) == usable.end()) {
    std::string all;
    for (const std::string& one : usable) all += (all.empty() ? "" : one == usable.back() ? " or " : ", ") + one;
    throw Napi::Error::New(info.Env(), "TURL_ISA: expected what this processor has, " + all + ", got " + isa);
  }
  return Napi::String::New(info.Env(), "turl_cpu_" + isa);
}

// Calls the function that info.Data() points to. What it throws, errors of a GPU included, becomes an error of JavaScript.
using Function = Napi::Value (*)(const Napi::CallbackInfo&);
Napi::Value throwing_to_javascript(const Napi::CallbackInfo& info) {
  try {
    return reinterpret_cast<Function>(info.Data())(info);
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::exception& e) {
    throw error(info.Env(), "TURL_NATIVE", e.what());
  }
}

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new Addon());
  auto bind = [&](const char* name, Function f) {
    exports.Set(name, Napi::Function::New(env, throwing_to_javascript, name, reinterpret_cast<void*>(f)));
  };
  bind("openDevice", open_device), bind("signatures", signatures), bind("cpuLibrary", cpu_library);
  bind("allocate", allocate), bind("release", release), bind("transfer", transfer);
  bind("statistics", statistics), bind("configure", configure), bind("synchronize", synchronize);
  bind("record", record), bind("listen", listen), bind("plan", plan), bind("replay", replay), bind("forget", forget);
  return exports;
}

}  // namespace
}  // namespace turl

using turl::initialise;
NODE_API_MODULE(turl, initialise)
