// Recordings: when each block is alive, and where it is put for replays.
#include "recording.h"
#include <algorithm>

namespace turl {

void Recording::note(std::unique_ptr<Call> call) {
  for (const auto& taken : device.scratch) call->scratch_bytes += aligned(taken.second);
  if (call->scratch_bytes > 0) {
    scratch_.push_back({call.get(), blocks_.size()});
    blocks_.push_back({nullptr, call->scratch_bytes, now_, now_ + 1, 0});
  }
  sections.back().calls.push_back(std::move(call));
  now_++;
}

int32_t Recording::born(void* data, size_t bytes) {
  blocks_.push_back({data, bytes, now_, lives_on, 0});
  return int32_t(blocks_.size() - 1);
}

void Recording::died(int32_t block) {
  Block& b = blocks_[size_t(block)];
  if (planned()) return;  // replays go on using it
  b.death = now_;
  device.pool->give(b.data, b.bytes);
}

// Places blocks by size, the largest first, each at the lowest offset that is free during its whole life. Returns the bytes that this
// takes, which is close to the largest sum of blocks alive at the same time.
size_t Recording::lay_out() {
  std::vector<Block*> order, placed;
  for (Block& b : blocks_)
    if (b.death != lives_on) order.push_back(&b);
  std::stable_sort(order.begin(), order.end(), [](const Block* a, const Block* b) { return a->bytes > b->bytes; });
  size_t total = 0;
  for (Block* b : order) {
    b->offset = 0;
    for (const Block* other : placed) {  // by offset
      if (b->offset + aligned(b->bytes) <= other->offset) break;
      if (b->birth < other->death && other->birth < b->death)
        b->offset = std::max(b->offset, other->offset + aligned(other->bytes));
    }
    const auto lower = [](const Block* x, const Block* y) { return x->offset < y->offset; };
    placed.insert(std::upper_bound(placed.begin(), placed.end(), b, lower), b);
    total = std::max(total, b->offset + aligned(b->bytes));
  }
  return total;
}

bool Recording::plan() {
  bytes_ = std::max(lay_out(), size_t(256));
  memory_ = static_cast<char*>(device.pool->take_whole(bytes_));
  if (!memory_) return false;
  Places places;
  for (const Block& b : blocks_) places.push_back(b.death == lives_on ? nullptr : memory_ + b.offset);
  for (Section& section : sections)
    for (auto& call : section.calls) call->moved(places);
  for (const auto& [call, block] : scratch_) call->scratch = static_cast<char*>(places[block]);
  return true;
}

Recording::~Recording() {
  if (!planned()) return;
  try {
    for (const Block& b : blocks_)
      if (b.death == lives_on) device.pool->give(b.data, b.bytes);
    device.pool->give_whole(memory_, bytes_);
  } catch (const std::exception&) {  // the device has failed, which was reported when it happened
  }
}

}  // namespace turl
