/* The driver of a GPU, as pcworker.kernels.cuda.driver and torch use it. Kernels run on the emulator
 * of emulated_gpu.cpp. What a driver refuses is refused: a launch without a context, without blocks,
 * or with more shared memory than the kernel has leave for.
 */
#include <cstring>

#include "emulated_streams.h"

enum { SHUFFLED = 2, MOST_ARGUMENTS = 16 }; /* as in emulated_gpu.cpp */
using Launch = const char *(*)(void *, int, int, int, const long long *, int, unsigned long long);
struct Function {
    std::string name;
    void *code;
    Launch launch;
    int parameters, most_shared = 48 << 10;
};
using Functions = std::map<std::string, Function>; /* a module */

extern "C" {
CUresult cuGetErrorName(CUresult error, const char **text) {
    *text = cudaGetErrorName((cudaError_t)error);
    return CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult error, const char **text) {
    *text = cudaGetErrorString((cudaError_t)error);
    return CUDA_SUCCESS;
}
CUresult cuDriverGetVersion(int *version) { *version = CUDA_VERSION; return CUDA_SUCCESS; }
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute what, CUdevice) {
    static const std::map<int, int> known = {
        {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 132},
        {CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, 50 << 20},
        {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 9},
        {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 0},
        {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, SHARED_OF_BLOCK + 1024},
        {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR, 65536},
        {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, SHARED_OF_BLOCK},
        {CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32},
        {CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS, 0},
        {CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1},
    };
    auto found = known.find(what);
    if (found == known.end()) {
        fprintf(stderr, "emulated GPU: no attribute %d\n", what);
        return CUDA_ERROR_INVALID_VALUE;
    }
    *value = found->second;
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice) {
    *context = (CUcontext)&default_stream;
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxGetState(CUdevice, unsigned *flags, int *active) {
    *flags = 0;
    *active = 1;
    return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext *context) {
    *context = has_context ? (CUcontext)&default_stream : nullptr;
    return CUDA_SUCCESS;
}
CUresult cuCtxSetCurrent(CUcontext context) {
    has_context = context != nullptr;
    return CUDA_SUCCESS;
}

#define DRIVER                                             \
    Lock lock;                                             \
    if (!has_context) return CUDA_ERROR_INVALID_CONTEXT;   \
    if (broken) return (CUresult)broken;

CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
    DRIVER
    return (CUresult)cudaStreamCreateWithPriority(stream, flags, 0);
}

/* What torch asks for before it knows whether it will need it. */
static CUresult not_emulated() { return CUDA_ERROR_NOT_SUPPORTED; }
cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **found, unsigned,
                                             unsigned long long,
                                             cudaDriverEntryPointQueryResult *result) {
    void *ours = dlsym(RTLD_DEFAULT, name);
    *found = ours ? ours : (void *)not_emulated;
    if (result) *result = cudaDriverEntryPointSuccess;
    return cudaSuccess;
}

/* An image is the path of a library for the emulator, and after it, line by line, the names of its
 * kernels and their numbers of parameters. */
CUresult cuModuleLoadData(CUmodule *module, const void *image) {
    DRIVER
    if (unsafe()) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    std::string text = (const char *)image;
    if (text.rfind("emulated ", 0)) return CUDA_ERROR_INVALID_IMAGE;
    text = text.substr(9);
    size_t end = text.find('\n');
    void *library = dlopen(text.substr(0, end).c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) return CUDA_ERROR_INVALID_IMAGE;
    auto launch = (Launch)dlsym(library, "emulated_launch");
    auto *functions = new Functions;
    char name[256];
    int parameters, read;
    const char *at = text.c_str() + end;
    for (; sscanf(at, " %255s %d%n", name, &parameters, &read) == 2; at += read)
        (*functions)[name] = {name, dlsym(library, name), launch, parameters};
    *module = (CUmodule)functions;
    return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
    DRIVER
    auto &functions = *(Functions *)module;
    auto found = functions.find(name);
    if (found == functions.end() || !found->second.code) return CUDA_ERROR_NOT_FOUND;
    *function = (CUfunction)&found->second;
    return CUDA_SUCCESS;
}
CUresult cuFuncGetAttribute(int *value, CUfunction_attribute what, CUfunction) {
    DRIVER
    *value = what == CU_FUNC_ATTRIBUTE_NUM_REGS ? 96 : 0;
    return CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute what, int value) {
    DRIVER
    if (what != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || value > SHARED_OF_BLOCK)
        return CUDA_ERROR_INVALID_VALUE;
    ((Function *)function)->most_shared = value;
    return CUDA_SUCCESS;
}
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *count, CUfunction, int threads, size_t shared) {
    DRIVER
    *count = std::min(65536 / (threads * 96), (int)((SHARED_OF_BLOCK + 1024) / (shared + 1024)));
    return CUDA_SUCCESS;
}

/* Whether the GPU breaks at this launch: the 30th of a process, if no other one broke before. */
static bool breaks() {
    static int launches;
    const char *broken_before = getenv("EMULATED_BREAKS");
    if (!broken_before || ++launches != 30) return false;
    FILE *file = fopen(broken_before, "wx");
    if (file) fclose(file);
    return file != nullptr;
}

CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                        unsigned by, unsigned bz, unsigned shared, CUstream stream, void **parameters,
                        void **extra) {
    DRIVER
    auto *f = (Function *)function;
    bool right = gx && gy == 1 && gz == 1 && bx && bx <= THREADS_OF_BLOCK && by == 1 && bz == 1;
    if (!right || extra || (int)shared > f->most_shared) return CUDA_ERROR_INVALID_VALUE;
    auto values = std::make_shared<std::vector<long long>>(MOST_ARGUMENTS);
    for (int i = 0; i < f->parameters; i++) (*values)[i] = *(long long *)parameters[i];
    bool lost = breaks();
    return (CUresult)put(stream, [=] {
        if (lost) return break_down("it breaks, as the test asks for");
        auto how = values->data();
        const char *said = f->launch(f->code, (int)gx, (int)bx, (int)shared, how, SHUFFLED, draw());
        if (said) break_down(f->name + ": " + said);
    });
}
}
