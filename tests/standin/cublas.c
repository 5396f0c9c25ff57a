/* The functions of cuBLAS that are called past CuPy, as its header declares them: they hand what came
   to the stand-in. */
#include <stddef.h>

typedef int (*Gemm)(void*, int, int, int, int, int, const void*, const void*, int, int, long long,
                    const void*, int, int, long long, const void*, void*, int, int, long long, int,
                    int, int);
typedef int (*SetStream)(void*, void*);
typedef int (*SetWorkspace)(void*, void*, size_t);

static Gemm gemm;
static SetStream set_stream;
static SetWorkspace set_workspace;

void install(Gemm g, SetStream s, SetWorkspace w) {
    gemm = g;
    set_stream = s;
    set_workspace = w;
}

int cublasGemmStridedBatchedEx(void* handle, int transa, int transb, int m, int n, int k,
                               const void* alpha, const void* A, int Atype, int lda,
                               long long strideA, const void* B, int Btype, int ldb,
                               long long strideB, const void* beta, void* C, int Ctype, int ldc,
                               long long strideC, int batchCount, int computeType, int algo) {
    return gemm(handle, transa, transb, m, n, k, alpha, A, Atype, lda, strideA, B, Btype, ldb,
                strideB, beta, C, Ctype, ldc, strideC, batchCount, computeType, algo);
}

int cublasSetStream_v2(void* handle, void* stream) { return set_stream(handle, stream); }

int cublasSetWorkspace_v2(void* handle, void* workspace, size_t bytes) {
    return set_workspace(handle, workspace, bytes);
}
