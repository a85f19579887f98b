// Changes whenever any bit of any result can change: saved sessions, replays and golden files carry it.
#pragma once

namespace tinyzh {

inline constexpr int kNumericsVersion = 2;

}  // namespace tinyzh
