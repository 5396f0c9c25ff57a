// Who met which place of memory: two threads that meet one with no barrier between them, one of
// them writing, race. The compiler calls `__tsan_...` before every read and write of a kernel (its
// thread sanitizer, whose own library is not used: it knows no threads that are fibers).
#pragma once

#include <cstdint>

namespace races {

void launched();  // nothing is known of any place
void block_starts();  // shared memory is another block's
void block_meets();  // all threads of the block are at a barrier
void warp_meets(unsigned warp);
// From here on thread `thread` of the block meets memory; what lies on its stack is its own.
void follow(unsigned thread, const char* stack, std::size_t size);
void rest();  // what follows is the emulation's
bool found();
bool apart();  // an access at an address that its size does not divide

}  // namespace races
