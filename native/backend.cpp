// Opens the backends, which are shared libraries beside the addon.
#include <dlfcn.h>
#include <unistd.h>
#include <cstdlib>
#include "addon.h"

namespace turl {

std::unique_ptr<Backend> open_backend(const std::string& library) {
  Dl_info self;
  dladdr(reinterpret_cast<void*>(&open_backend), &self);
  std::string path = self.dli_fname;
  path = path.substr(0, path.rfind('/') + 1) + library + ".so";
  // A folder with other builds of the backends, such as those with sanitizers (scripts/sanitize.mjs).
  if (const char* folder = std::getenv("TURL_BACKEND_DIR"))
    if (std::string other = std::string(folder) + "/" + library + ".so"; access(other.c_str(), F_OK) == 0) path = other;
  if (access(path.c_str(), F_OK) != 0)
    throw std::runtime_error(library + (library == "turl_cuda"
                                            ? " was not built, because there was no nvcc: with it in PATH, npm run build adds it"
                                            : " is not there (" + path + "): npm run build makes it"));
  void* opened = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!opened) throw std::runtime_error(std::string("cannot open ") + library + ": " + dlerror());
  auto open = reinterpret_cast<turl_backend_function>(dlsym(opened, "turl_backend"));
  if (!open) throw std::runtime_error(library + " is not a turl backend");
  return std::unique_ptr<Backend>(open(backend_abi));  // the library stays open: its code lives as long as the process
}

}  // namespace turl
