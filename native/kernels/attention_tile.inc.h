// The pages of a segment in tiles, and its queries in groups, as attention goes through them.

constexpr uint32_t kAllSlots = 0xffffffffu;

// The pages of a tile that any row sees.
struct Tile {
  int pages = 0;
  const uint8_t* page[kTilePages];
  const uint32_t* visible[kTilePages];  // of each row
  const uint8_t* following[2];          // the pages after the tile
};

// Q queries that follow each other, of one row or of several, and their scores in a tile.
template <int Q>
struct QueryGroup {
  static constexpr int kQueries = Q;
  QueryGroup(const AttentionSegment& segment, int first_query, float* memory)
      : s(segment), first(first_query), scores(memory) {
    for (int q = 0, of_row = first % s.group, r = first / s.group; q < Q; ++q, ++of_row) {
      if (of_row == s.group) of_row = 0, ++r;
      row[q] = r;
    }
  }
  const float* query(int q) const { return s.queries + size_t(first + q) * s.key_width; }
  float* output(int q) const { return s.output + size_t(first + q) * s.value_width; }
  float* score(int q, int page) const { return scores + q * kTileSlots + page * kPageSize; }
  uint32_t visible(const Tile& tile, int page, int q) const { return tile.visible[page][row[q]]; }
  // The slots of a page that any of the queries sees.
  uint32_t seen(const Tile& tile, int page) const {
    uint32_t any = 0;
    for (int r = row[0]; r <= row[Q - 1]; ++r) any |= tile.visible[page][r];
    return any;
  }
  bool all_see(const Tile& tile, int page, uint32_t slots) const {
    for (int r = row[0]; r <= row[Q - 1]; ++r)
      if (tile.visible[page][r] != slots) return false;
    return true;
  }
  const AttentionSegment& s;
  int first;
  int row[Q];
  float* scores;  // Q x kTileSlots
};

// Calls use(group) for up to four queries at a time; scores(first query) is where theirs lie.
template <class Use, class Scores>
inline void each_group(const AttentionSegment& s, const Scores& scores, const Use& use) {
  const int queries = s.rows * s.group;
  int first = 0;
  for (; first + 4 <= queries; first += 4) use(QueryGroup<4>(s, first, scores(first)));
  if (queries - first == 3) use(QueryGroup<3>(s, first, scores(first)));
  if (queries - first == 2) use(QueryGroup<2>(s, first, scores(first)));
  if (queries - first == 1) use(QueryGroup<1>(s, first, scores(first)));
}

inline void start_segment(const AttentionSegment& s) {
  const int queries = s.rows * s.group;
  for (int q = 0; q < queries; ++q) {
    s.maximum[q] = kMinusInfinity;
    s.total[q] = 0.0f;
  }
  for (size_t i = 0; i < size_t(queries) * s.value_width; ++i) s.output[i] = 0.0f;
}

// Calls use(tile) for each tile of which a row sees any.
template <class Use>
inline void each_tile(const AttentionSegment& s, const Use& use) {
  for (int p = 0; p < s.page_count;) {
    const int end = p + kTilePages - (s.first_page + p) % kTilePages;
    Tile tile;
    for (; p < end && p < s.page_count; ++p) {
      const uint32_t* visible = s.visible + size_t(p) * s.rows;
      bool seen = false;
      for (int row = 0; row < s.rows; ++row) seen |= visible[row] != 0;
      if (!seen) continue;
      tile.page[tile.pages] = s.entries + size_t(s.pages[p]) * s.page_stride;
      tile.visible[tile.pages++] = visible;
    }
    if (tile.pages == 0) continue;
    for (int i = 0; i < 2; ++i) {
      const int32_t page = p + i < s.page_count ? s.pages[p + i] : -1;
      tile.following[i] = page < 0 ? tile.page[0] : s.entries + size_t(page) * s.page_stride;
    }
    use(tile);
  }
}
