// Breadth-first search of the published Kafka replication family, written by hand for one model at a time: what an
// engineer without hwmark would write, and what benchmarks/explore.py compares hwmark with.
//
// Exact: the visited set holds whole packed states (at most 127 bits), never fingerprints. WeakIsr and StrongIsr are
// checked in every distinct state, and the search goes on after a violation. One thread, no trace, no spilling.
// Source of the protocol: hachikuji/kafka-specification (KafkaReplication and the five modules that extend it).
//
// usage: replication_search VARIANT REPLICAS LOG_SIZE RECORDS MAX_EPOCH [symmetry]
// prints one line of JSON; depths count states on a shortest path, the initial state being 1.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

namespace {

constexpr int kReplicasMax = 4, kLogSizeMax = 4, kRecordsMax = 8, kEpochMax = 5;
constexpr int kNone = -1;  // no leader, or no epoch yet

enum class Variant { kTruncateToHighWatermark, kKip101, kKip279, kKip320FirstTry, kKip320 };
constexpr const char* kVariantNames[] = {"truncate-to-hw", "kip-101", "kip-279", "kip-320-first-try", "kip-320"};

struct Bounds {
  Variant variant;
  int replicas, log_size, records, max_epoch;
};

// ---- State ---------------------------------------------------------------------------------------------------------

struct Record {
  int8_t id, epoch;
  bool operator==(const Record& other) const { return id == other.id && epoch == other.epoch; }
};

struct Replica {
  int8_t high_watermark = 0, leader_epoch = kNone, leader = kNone;
  uint8_t isr = 0;  // a set of replicas, as a bit mask
  int8_t log_end_offset = 0;
  std::array<Record, kLogSizeMax> log{};  // zero from log_end_offset on, so that equal states have equal bytes

  bool has(int offset) const { return offset < log_end_offset; }

  void append(Record record) { log[log_end_offset++] = record; }

  void truncate(int offset) {
    while (log_end_offset > offset) log[--log_end_offset] = Record{};
    high_watermark = std::min<int8_t>(high_watermark, offset);
  }
};

struct LeaderAndIsr {
  int8_t leader = kNone;
  uint8_t isr = 0;
};

struct State {
  int8_t next_leader_epoch = 0, next_record_id = 0;
  int8_t quorum_epoch = kNone;
  LeaderAndIsr quorum;
  std::array<LeaderAndIsr, kEpochMax + 1> requests;  // by leader epoch; sent are those below next_leader_epoch
  std::array<Replica, kReplicasMax> replicas;
};

bool contains(unsigned set, int replica) { return set >> replica & 1; }
uint8_t with(unsigned set, int replica) { return set | 1u << replica; }
uint8_t without(unsigned set, int replica) { return set & ~(1u << replica); }

State initial_state(const Bounds& bounds) {
  State state;
  state.quorum.isr = (1u << bounds.replicas) - 1;
  return state;
}

bool same_record_at(const Replica& a, const Replica& b, int offset) {
  return a.has(offset) && b.has(offset) && a.log[offset] == b.log[offset];
}

// ---- Packing: the fields are listed once and either written to or read from a word ---------------------------------

using Key = unsigned __int128;

struct BitWriter {
  uint64_t word = 0;
  int position = 0;
  void field(int value, int width, int least = 0) {
    word |= static_cast<uint64_t>(value - least) << position;
    position += width;
  }
};

struct BitReader {
  uint64_t word;
  int position = 0;
  template <typename Int>
  void field(Int& value, int width, int least = 0) {
    value = static_cast<int>(word >> position & ((1u << width) - 1)) + least;
    position += width;
  }
};

int bit_width(unsigned value) {
  int width = 0;
  for (; value; value >>= 1) width++;
  return width;
}

class Packing {
 public:
  explicit Packing(const Bounds& b)
      : replicas_(b.replicas), log_size_(b.log_size), epochs_(b.max_epoch + 1), offset_(bit_width(b.log_size)),
        record_id_(bit_width(b.records - 1)), record_count_(bit_width(b.records)),
        record_epoch_(bit_width(b.max_epoch)), epoch_(bit_width(b.max_epoch + 1)), leader_(bit_width(b.replicas)) {
    BitWriter controller, replica;
    const State state{};
    controller_fields(controller, state);
    replica_fields(replica, state.replicas[0]);
    controller_bits_ = controller.position;
    replica_bits_ = replica.position;
  }

  // The leading one bit in pack() included.
  int bits() const { return 1 + controller_bits_ + replicas_ * replica_bits_; }

  // Never zero: the visited set marks its free slots with zero.
  Key pack(const State& state) const {
    BitWriter controller;
    controller_fields(controller, state);
    Key key = Key{1} << controller_bits_ | controller.word;
    for (int r = 0; r < replicas_; r++) {
      BitWriter replica;
      replica_fields(replica, state.replicas[r]);
      key = key << replica_bits_ | replica.word;
    }
    return key;
  }

  State unpack(Key key) const {
    State state;
    for (int r = replicas_ - 1; r >= 0; r--) {
      BitReader replica{static_cast<uint64_t>(key)};
      replica_fields(replica, state.replicas[r]);
      key >>= replica_bits_;
    }
    BitReader controller{static_cast<uint64_t>(key)};
    controller_fields(controller, state);
    return state;
  }

 private:
  template <typename Bits, typename AnyState>
  void controller_fields(Bits& bits, AnyState& state) const {
    bits.field(state.next_leader_epoch, epoch_);
    bits.field(state.next_record_id, record_count_);
    bits.field(state.quorum_epoch, epoch_, kNone);
    leader_and_isr_fields(bits, state.quorum);
    for (int epoch = 0; epoch < epochs_; epoch++) leader_and_isr_fields(bits, state.requests[epoch]);
  }

  template <typename Bits, typename AnyLeaderAndIsr>
  void leader_and_isr_fields(Bits& bits, AnyLeaderAndIsr& value) const {
    bits.field(value.leader, leader_, kNone);
    bits.field(value.isr, replicas_);
  }

  template <typename Bits, typename AnyReplica>
  void replica_fields(Bits& bits, AnyReplica& replica) const {
    bits.field(replica.high_watermark, offset_);
    bits.field(replica.leader_epoch, epoch_, kNone);
    bits.field(replica.leader, leader_, kNone);
    bits.field(replica.isr, replicas_);
    bits.field(replica.log_end_offset, offset_);
    for (int offset = 0; offset < log_size_; offset++) {
      bits.field(replica.log[offset].id, record_id_);
      bits.field(replica.log[offset].epoch, record_epoch_);
    }
  }

  int replicas_, log_size_, epochs_;
  int offset_, record_id_, record_count_, record_epoch_, epoch_, leader_;  // widths in bits
  int controller_bits_ = 0, replica_bits_ = 0;
};

// ---- Symmetry: replicas are interchangeable; a state stands for all its renamings ----------------------------------

class Symmetry {
 public:
  explicit Symmetry(int replicas) : replicas_(replicas) {
    std::array<int, kReplicasMax> renaming;
    std::iota(renaming.begin(), renaming.end(), 0);
    do renamings_.push_back(renaming);
    while (std::next_permutation(renaming.begin(), renaming.begin() + replicas));
  }

  // The least key among all renamings of the state.
  Key canonical(const Packing& packing, const State& state) const {
    Key least = ~Key{0};
    for (const auto& renaming : renamings_) least = std::min(least, packing.pack(renamed(state, renaming)));
    return least;
  }

 private:
  using Renaming = std::array<int, kReplicasMax>;

  State renamed(const State& state, const Renaming& to) const {
    State result = state;
    result.quorum = renamed_request(state.quorum, to);
    for (int epoch = 0; epoch < state.next_leader_epoch; epoch++)
      result.requests[epoch] = renamed_request(state.requests[epoch], to);
    for (int r = 0; r < replicas_; r++) {
      Replica& replica = result.replicas[to[r]];
      replica = state.replicas[r];
      const LeaderAndIsr known = renamed_request({replica.leader, replica.isr}, to);
      replica.leader = known.leader;
      replica.isr = known.isr;
    }
    return result;
  }

  LeaderAndIsr renamed_request(LeaderAndIsr value, const Renaming& to) const {
    LeaderAndIsr result;
    if (value.leader != kNone) result.leader = to[value.leader];
    for (int r = 0; r < replicas_; r++)
      if (contains(value.isr, r)) result.isr = with(result.isr, to[r]);
    return result;
  }

  int replicas_;
  std::vector<Renaming> renamings_;
};

// ---- Protocol ------------------------------------------------------------------------------------------------------

// Calls `emit` with every successor of a state, once for every way an action leads there.
template <typename Emit>
class Actions {
 public:
  Actions(const Bounds& bounds, const State& state, Emit& emit) : bounds_(bounds), s_(state), emit_(emit) {}

  void run() const {
    controller_elect_leader();
    controller_shrink_isr();
    become_leader();
    for (int r = 0; r < bounds_.replicas; r++) {
      leader_write(r);
      leader_shrink_or_expand_isr(r);
      leader_increment_high_watermark(r);
    }
    for (int leader = 0; leader < bounds_.replicas; leader++)
      for (int follower = 0; follower < bounds_.replicas; follower++)
        if (leader != follower) {
          become_follower(leader, follower);
          follower_fetch(leader, follower);
          if (bounds_.variant == Variant::kKip320FirstTry) follower_truncate(leader, follower);
        }
  }

 private:
  const Replica& replica(int r) const { return s_.replicas[r]; }
  bool presumes_leadership(int r) const { return replica(r).leader == r; }
  bool is_follower_of(int leader, int r) const { return replica(r).leader == leader; }

  // KIP-320: both presume the same leader, in the same epoch.
  bool is_fenced_follower_of(int leader, int r) const {
    return presumes_leadership(leader) && is_follower_of(leader, r) &&
           replica(r).leader_epoch == replica(leader).leader_epoch;
  }

  // Fetching from `end`, the follower shows the leader that it holds everything before.
  bool is_caught_up(int leader, int follower, int end) const {
    const Replica &l = replica(leader), &f = replica(follower);
    if (!is_follower_of(leader, follower)) return false;
    const bool has_end = end == 0 || (l.has(end - 1) && f.has(end - 1));
    if (bounds_.variant != Variant::kKip320FirstTry) return has_end;
    return presumes_leadership(leader) && has_end && (end == 0 || l.log[end - 1].epoch == f.log[end - 1].epoch);
  }

  // The leader has committed up to the first record of its own epoch, or everything.
  bool has_high_watermark_reached_epoch(int leader) const {
    const Replica& l = replica(leader);
    const int offset = l.high_watermark;
    return offset == l.log_end_offset || (l.has(offset) && l.log[offset].epoch == l.leader_epoch);
  }

  void controller_update(int leader, unsigned isr) const {
    if (s_.next_leader_epoch > bounds_.max_epoch) return;
    State next = s_;
    next.quorum_epoch = next.next_leader_epoch++;
    next.quorum.leader = leader;
    next.quorum.isr = isr;
    next.requests[next.quorum_epoch] = next.quorum;
    emit_(next);
  }

  void controller_elect_leader() const {
    for (int r = 0; r < bounds_.replicas; r++)
      if (contains(s_.quorum.isr, r) && s_.quorum.leader != r) controller_update(r, s_.quorum.isr);
  }

  // A failed leader leaves the ISR unless it is the last member; a failed follower always leaves it.
  void controller_shrink_isr() const {
    const auto [leader, isr] = s_.quorum;
    for (int r = 0; r < bounds_.replicas; r++) {
      if (leader == r)
        controller_update(kNone, isr == with(0, r) ? isr : without(isr, r));
      else if (contains(isr, r))
        controller_update(leader, without(isr, r));
    }
  }

  void become_leader() const {
    for (int epoch = 0; epoch < s_.next_leader_epoch; epoch++) {
      const LeaderAndIsr request = s_.requests[epoch];
      if (request.leader == kNone || epoch <= replica(request.leader).leader_epoch) continue;
      State next = s_;
      follow_request(next.replicas[request.leader], epoch);
      emit_(next);
    }
  }

  void follow_request(Replica& replica, int epoch) const {
    replica.leader_epoch = epoch;
    replica.leader = s_.requests[epoch].leader;
    replica.isr = s_.requests[epoch].isr;
  }

  void leader_write(int leader) const {
    const Replica& l = replica(leader);
    if (!presumes_leadership(leader) || s_.next_record_id >= bounds_.records || l.log_end_offset >= bounds_.log_size)
      return;
    State next = s_;
    next.replicas[leader].append({next.next_record_id++, l.leader_epoch});
    emit_(next);
  }

  // Both change the quorum's ISR, which only its leader may do, in its own epoch.
  void leader_shrink_or_expand_isr(int leader) const {
    const Replica& l = replica(leader);
    if (s_.quorum.leader != leader || !presumes_leadership(leader) || l.leader_epoch != s_.quorum_epoch) return;
    for (int r = 0; r < bounds_.replicas; r++) {
      if (!contains(l.isr, r)) {
        if (may_expand_isr(leader, r)) quorum_update(leader, with(l.isr, r));
      } else if (r != leader) {
        for (int ways = ways_to_shrink_isr(leader, r); ways > 0; ways--) quorum_update(leader, without(l.isr, r));
      }
    }
  }

  void quorum_update(int leader, unsigned isr) const {
    State next = s_;
    next.quorum.isr = next.replicas[leader].isr = isr;
    emit_(next);
  }

  // KIP-320 has two disjuncts that lead to the same state; each counts as generated.
  int ways_to_shrink_isr(int leader, int follower) const {
    const int end = replica(leader).log_end_offset;
    if (bounds_.variant == Variant::kKip320)
      return !is_fenced_follower_of(leader, follower) + (replica(follower).log_end_offset < end);
    return !is_caught_up(leader, follower, end);
  }

  bool may_expand_isr(int leader, int follower) const {
    const int end = replica(leader).high_watermark;
    switch (bounds_.variant) {
      case Variant::kKip320:
        return is_fenced_follower_of(leader, follower) && replica(follower).log_end_offset >= end &&
               has_high_watermark_reached_epoch(leader);
      case Variant::kKip320FirstTry:
        return is_caught_up(leader, follower, end) && has_high_watermark_reached_epoch(leader);
      default:
        return is_caught_up(leader, follower, end);
    }
  }

  void leader_increment_high_watermark(int leader) const {
    const Replica& l = replica(leader);
    if (!presumes_leadership(leader) || !l.has(l.high_watermark)) return;
    for (int r = 0; r < bounds_.replicas; r++)
      if (contains(l.isr, r) && !has_acknowledged(leader, r, l.high_watermark)) return;
    State next = s_;
    next.replicas[leader].high_watermark++;
    emit_(next);
  }

  bool has_acknowledged(int leader, int r, int offset) const {
    switch (bounds_.variant) {
      case Variant::kKip320: return is_fenced_follower_of(leader, r) && replica(r).has(offset);
      case Variant::kKip320FirstTry: return is_caught_up(leader, r, offset + 1);
      default: return is_follower_of(leader, r) && replica(r).has(offset);
    }
  }

  void become_follower(int leader, int r) const {
    const bool is_fenced = bounds_.variant == Variant::kKip320;
    if (is_fenced && !presumes_leadership(leader)) return;
    const int offset = truncation_offset(leader, r);
    if (offset > replica(r).log_end_offset) return;
    for (int epoch = replica(r).leader_epoch + 1; epoch < s_.next_leader_epoch; epoch++) {
      if (s_.requests[epoch].leader != leader || (is_fenced && epoch != replica(leader).leader_epoch)) continue;
      State next = s_;
      next.replicas[r].truncate(offset);
      follow_request(next.replicas[r], epoch);
      emit_(next);
      // KIP-279 lists an empty log as a case of its own beside the general one: the step counts twice.
      if (bounds_.variant == Variant::kKip279 && replica(r).log_end_offset == 0) emit_(next);
    }
  }

  // Where a new follower's log is cut; past its end, the step is not possible.
  int truncation_offset(int leader, int follower) const {
    switch (bounds_.variant) {
      case Variant::kTruncateToHighWatermark: return replica(follower).high_watermark;
      case Variant::kKip101: return end_of_last_epoch(replica(leader), replica(follower));
      case Variant::kKip320FirstTry: return replica(follower).log_end_offset;  // truncates later, while fetching
      default: return end_of_common_prefix(replica(leader), replica(follower));
    }
  }

  // KIP-101: the leader's answer to the follower's OffsetsForLeaderEpoch request for its last epoch.
  static int end_of_last_epoch(const Replica& leader, const Replica& follower) {
    if (follower.log_end_offset == 0) return 0;
    if (leader.log_end_offset == 0) return follower.high_watermark;
    const int epoch = follower.log[follower.log_end_offset - 1].epoch;
    if (leader.log[leader.log_end_offset - 1].epoch == epoch) return leader.log_end_offset;
    for (int offset = 0; offset < leader.log_end_offset; offset++)
      if (leader.log[offset].epoch > epoch) return offset;
    return follower.high_watermark;
  }

  // KIP-279: past the greatest offset at which both logs hold the same record.
  static int end_of_common_prefix(const Replica& leader, const Replica& follower) {
    int end = std::min(leader.log_end_offset, follower.log_end_offset);
    while (end > 0 && !(leader.log[end - 1] == follower.log[end - 1])) end--;
    return end;
  }

  void follower_fetch(int leader, int follower) const {
    const Replica &l = replica(leader), &f = replica(follower);
    const int offset = f.log_end_offset;
    if (!l.has(offset) || !may_fetch(leader, follower)) return;
    State next = s_;
    Replica& fetching = next.replicas[follower];
    fetching.append(l.log[offset]);
    fetching.high_watermark = std::min<int8_t>(l.high_watermark, offset + 1);
    emit_(next);
  }

  bool may_fetch(int leader, int follower) const {
    switch (bounds_.variant) {
      case Variant::kKip320: return is_fenced_follower_of(leader, follower);
      case Variant::kKip320FirstTry: return is_caught_up(leader, follower, replica(follower).log_end_offset);
      default: return presumes_leadership(leader) && is_follower_of(leader, follower);
    }
  }

  // First try of KIP-320: a fetching follower truncates once its last epoch turns out not to be the leader's.
  void follower_truncate(int leader, int follower) const {
    const Replica &l = replica(leader), &f = replica(follower);
    const int end = f.log_end_offset;
    if (!presumes_leadership(leader) || !is_follower_of(leader, follower)) return;
    if (end == 0 || (l.has(end - 1) && l.log[end - 1].epoch == f.log[end - 1].epoch)) return;
    State next = s_;
    next.replicas[follower].truncate(end_of_common_prefix(l, f));
    emit_(next);
  }

  const Bounds& bounds_;
  const State& s_;
  Emit& emit_;
};

// Every record below a presumed leader's high watermark is in the logs of the members of its ISR.
// WeakIsr takes the ISR the leader knows, StrongIsr (`quorum_isr`) the quorum's.
bool is_committed_replicated(const Bounds& bounds, const State& state, bool quorum_isr) {
  for (int leader = 0; leader < bounds.replicas; leader++) {
    const Replica& l = state.replicas[leader];
    if (l.leader != leader) continue;
    const unsigned isr = quorum_isr ? state.quorum.isr : l.isr;
    for (int r = 0; r < bounds.replicas; r++)
      for (int offset = 0; contains(isr, r) && offset < l.high_watermark; offset++)
        if (!same_record_at(l, state.replicas[r], offset)) return false;
  }
  return true;
}

// ---- Search --------------------------------------------------------------------------------------------------------

// A set of non-zero keys: open addressing, linear probing, doubling at three fifths full.
class VisitedSet {
 public:
  size_t size() const { return size_; }

  // Returns whether the key was absent.
  bool insert(Key key) {
    if (size_ * 5 >= slots_.size() * 3) grow();
    Key& slot = slot_of(key);
    if (slot == key) return false;
    slot = key;
    size_++;
    return true;
  }

 private:
  static uint64_t hash(Key key) {
    uint64_t h = static_cast<uint64_t>(key >> 64) * 0x9E3779B97F4A7C15u ^ static_cast<uint64_t>(key);
    h = (h ^ h >> 32) * 0xD6E8FEB86659FD93u;
    h = (h ^ h >> 32) * 0xD6E8FEB86659FD93u;
    return h ^ h >> 32;
  }

  // Where the key is, or the free slot where it belongs.
  Key& slot_of(Key key) {
    const size_t mask = slots_.size() - 1;
    size_t slot = hash(key) & mask;
    while (slots_[slot] != 0 && slots_[slot] != key) slot = (slot + 1) & mask;
    return slots_[slot];
  }

  void grow() {
    std::vector<Key> old(slots_.size() * 2);
    old.swap(slots_);
    for (Key key : old)
      if (key != 0) slot_of(key) = key;
  }

  std::vector<Key> slots_ = std::vector<Key>(size_t{1} << 16);
  size_t size_ = 0;
};

struct Violations {
  uint64_t states = 0;
  int depth = 0;  // of the first; 0: none

  void count(bool is_violated, int at_depth) {
    if (!is_violated) return;
    states++;
    if (depth == 0) depth = at_depth;
  }
};

struct Result {
  size_t distinct = 0;
  uint64_t generated = 1;  // the initial state
  int depth = 0;
  Violations weak_isr, strong_isr;
};

template <typename Canonical>
Result search(const Bounds& bounds, const Packing& packing, Canonical canonical) {
  Result result;
  VisitedSet visited;
  std::vector<Key> level, next_level;
  auto reach = [&](const State& state) {
    const Key key = canonical(state);
    if (visited.insert(key)) next_level.push_back(key);
  };
  auto emit = [&](const State& state) {
    result.generated++;
    reach(state);
  };
  for (reach(initial_state(bounds)); !next_level.empty();) {
    level.swap(next_level);
    next_level.clear();
    result.depth++;
    for (const Key key : level) {
      const State state = packing.unpack(key);
      result.weak_isr.count(!is_committed_replicated(bounds, state, false), result.depth);
      result.strong_isr.count(!is_committed_replicated(bounds, state, true), result.depth);
      Actions(bounds, state, emit).run();
    }
  }
  result.distinct = visited.size();
  return result;
}

Result search(const Bounds& bounds, const Packing& packing, bool symmetric) {
  if (!symmetric) return search(bounds, packing, [&](const State& state) { return packing.pack(state); });
  const Symmetry symmetry(bounds.replicas);
  return search(bounds, packing, [&](const State& state) { return symmetry.canonical(packing, state); });
}

// ---- Command -------------------------------------------------------------------------------------------------------

[[noreturn]] void refuse(const std::string& reason) {
  std::fprintf(stderr, "replication_search: %s\n", reason.c_str());
  std::exit(2);
}

Variant parse_variant(const char* name) {
  std::string known;
  for (int v = 0; v < 5; v++) {
    if (!std::strcmp(name, kVariantNames[v])) return static_cast<Variant>(v);
    known += std::string(v ? ", " : "") + kVariantNames[v];
  }
  refuse(std::string("unknown variant '") + name + "'; known: " + known);
}

int parse_bound(const char* what, const char* text, int least, int most) {
  char* end;
  const long value = std::strtol(text, &end, 10);
  if (end != text && !*end && least <= value && value <= most) return static_cast<int>(value);
  const std::string range = std::to_string(least) + " to " + std::to_string(most);
  refuse(std::string(what) + " must be " + range + ", not '" + text + "'");
}

void print_violations(const char* invariant, const Violations& violations) {
  const std::string depth = violations.depth ? std::to_string(violations.depth) : "null";
  std::printf(", \"%s_depth\": %s, \"%s_violations\": %llu", invariant, depth.c_str(), invariant,
              static_cast<unsigned long long>(violations.states));
}

void print_json(const Result& result, double seconds) {
  std::printf("{\"distinct\": %zu, \"generated\": %llu, \"depth\": %d, \"seconds\": %.6f", result.distinct,
              static_cast<unsigned long long>(result.generated), result.depth, seconds);
  print_violations("weak_isr", result.weak_isr);
  print_violations("strong_isr", result.strong_isr);
  std::puts("}");
}

}  // namespace

int main(int argc, char** argv) {
  const bool symmetric = argc == 7 && !std::strcmp(argv[6], "symmetry");
  if (argc != 6 && !symmetric) refuse("expected VARIANT REPLICAS LOG_SIZE RECORDS MAX_EPOCH [symmetry]");
  const Bounds bounds{parse_variant(argv[1]), parse_bound("REPLICAS", argv[2], 1, kReplicasMax),
                      parse_bound("LOG_SIZE", argv[3], 1, kLogSizeMax), parse_bound("RECORDS", argv[4], 1, kRecordsMax),
                      parse_bound("MAX_EPOCH", argv[5], 0, kEpochMax)};
  const Packing packing(bounds);
  if (packing.bits() > 128) refuse("a state of these bounds takes " + std::to_string(packing.bits()) + " bits of 128");
  const auto start = std::chrono::steady_clock::now();
  const Result result = search(bounds, packing, symmetric);
  print_json(result, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
}
