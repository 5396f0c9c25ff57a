// See races.hpp. Compiled apart, without the calls that are defined here. A place is known by the
// address where it is met, in words of four bytes: elements of an array that are smaller are read and
// written whole. An access whose size does not divide its address is noticed too.
#include "races.hpp"

#include <unordered_map>

extern "C" __attribute__((visibility("hidden"))) char __bss_start, _end;  // static: __shared__

namespace {

struct Visit {
    std::uint64_t block = 0, meeting = 0, warp_meeting = 0;  // none: block 0
    unsigned thread = 0;
};
struct Place {
    Visit write, reads[2];  // the last reads of two threads
};

std::unordered_map<std::uintptr_t, Place> places, shared;  // of the launch, of the block
std::uint64_t block, meeting, warp_meetings[32];
unsigned current;
std::uintptr_t bottom, top;
bool follows, race, crooked;

bool is_static(std::uintptr_t at) {
    return at >= std::uintptr_t(&__bss_start) && at < std::uintptr_t(&_end);
}

Visit visit() { return {block, meeting, warp_meetings[current / 32], current}; }

// Whether nothing orders an earlier visit before one now.
bool beside(const Visit& earlier) {
    if (!earlier.block) return false;
    if (earlier.block != block) return true;
    if (earlier.thread == current || earlier.meeting != meeting) return false;
    return earlier.thread / 32 != current / 32 ||
           earlier.warp_meeting == warp_meetings[current / 32];
}

void meet_word(std::uintptr_t at, bool writes) {
    Place& place = (is_static(at) ? shared : places)[at];
    race |= beside(place.write);
    if (writes) {
        for (const Visit& read : place.reads) race |= beside(read);
        place = {visit(), {}};
        return;
    }
    Visit* reads = place.reads;
    if (reads[0].block != block || reads[0].thread != current) reads[1] = reads[0];
    reads[0] = visit();
}

void meet(const void* where, unsigned long size, bool writes) {
    const auto at = std::uintptr_t(where);
    if (!follows || (at >= bottom && at < top)) return;
    for (unsigned long i = 0; i < size; i += 4) meet_word(at + i, writes);
}

void meet_whole(const void* where, unsigned long size, bool writes) {
    crooked |= follows && std::uintptr_t(where) % size;
    meet(where, size, writes);
}

}  // namespace

namespace races {

void launched() {
    places.clear();
    block = meeting = 0;
    race = crooked = follows = false;
}

void block_starts() {
    shared.clear();
    ++block;
}

void block_meets() { ++meeting; }
void warp_meets(unsigned warp) { ++warp_meetings[warp]; }

void follow(unsigned thread, const char* stack, std::size_t size) {
    current = thread;
    bottom = std::uintptr_t(stack);
    top = bottom + size;
    follows = true;
}

void rest() { follows = false; }
bool found() { return race; }
bool apart() { return crooked; }

}  // namespace races

extern "C" {

#define MET(size)                                                          \
    void __tsan_read##size(void* at) { meet_whole(at, size, false); }      \
    void __tsan_write##size(void* at) { meet_whole(at, size, true); }      \
    void __tsan_unaligned_read##size(void* at) { meet(at, size, false); }  \
    void __tsan_unaligned_write##size(void* at) { meet(at, size, true); }
MET(1) MET(2) MET(4) MET(8) MET(16)

void __tsan_read_range(void* at, unsigned long size) { meet(at, size, false); }
void __tsan_write_range(void* at, unsigned long size) { meet(at, size, true); }
void __tsan_vptr_update(void**, void*) {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_init() {}
}
