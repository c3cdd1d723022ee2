/* Contexts of the rans codec: the table of a pixel and the level its value is coded against, from pixels before it.
 *
 * The arithmetic of `contexts.py`, bit for bit: 16-bit weights, 32-bit sums, shifts towards minus infinity. Programs come
 * from a file and are not trusted: a parent must be an earlier channel, a context is clipped to the tables there are, and
 * what could overflow is unsigned.
 */
#ifndef ISTHMUS_CONTEXTS_H
#define ISTHMUS_CONTEXTS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define PHASES 4
#define HIDDEN 16
#define MAX_PARENTS 8
#define MAX_PAIRS 24
#define INSIDE 16
#define HIDDEN_SHIFT 4
#define HIDDEN_LIMIT 2047
#define OUTPUT_SHIFT 16

/* One channel, as `contexts.PROGRAM` lays it out; without a network, `table` is its table. */
typedef struct {
    int32_t table, classes, parents;
    int32_t parent[MAX_PARENTS];
    int32_t hidden_bias[HIDDEN];
    int32_t output_bias[2];
    int16_t output_weight[2][HIDDEN];
    int16_t hidden_weight[MAX_PAIRS][HIDDEN][2];
} Program;

/* The latent less 128, each plane with a frame of zeros, after a plane that tells inside from outside. */
typedef struct {
    int16_t *planes;
    ptrdiff_t channels, height, width, stride, plane; /* stride, plane: of the framed planes */
    const unsigned char *tables;
    ptrdiff_t table_count;
    const char *programs;
} Latent;

typedef struct {
    Program program;
    const int16_t *inputs[2 * MAX_PAIRS]; /* each input of the plane's first pixel */
    int pairs;
} Channel;

static inline int32_t shifted(uint32_t value, int by) { /* two's complement, towards minus infinity */
    return (int32_t)((value ^ 0x80000000u) >> by) - (int32_t)(0x80000000u >> by);
}

/* Returns 0 if the program is inconsistent. */
static int open_channel(Channel *own, const Latent *latent, ptrdiff_t channel) {
    static const int edges[4][2] = {{1, 0}, {-1, 0}, {0, 1}, {0, -1}};
    static const int cross[5][2] = {{0, 0}, {-1, 0}, {1, 0}, {0, -1}, {0, 1}};
    static const int causal[4][2] = {{-1, -1}, {-1, 0}, {-1, 1}, {0, -1}};
    Program *program = &own->program;
    memcpy(program, latent->programs + channel * (ptrdiff_t)sizeof(Program), sizeof(Program));
    if (program->table >= 0) return program->table < latent->table_count;
    if (program->classes < 1 || program->classes > latent->table_count / PHASES || program->parents < 0 ||
        program->parents > MAX_PARENTS) {
        return 0;
    }
    const int16_t *const inside = latent->planes + latent->stride + 1;
    int count = 0;
    for (int i = 0; i < 4; i++) own->inputs[count++] = inside + edges[i][0] * latent->stride + edges[i][1];
    for (int32_t k = 0; k < program->parents; k++) {
        if (program->parent[k] < 0 || program->parent[k] >= channel) return 0;
        const int16_t *const parent = inside + (1 + program->parent[k]) * latent->plane;
        for (int i = 0; i < 5; i++) own->inputs[count++] = parent + cross[i][0] * latent->stride + cross[i][1];
    }
    const int16_t *const self = inside + (1 + channel) * latent->plane;
    for (int i = 0; i < 4; i++) own->inputs[count++] = self + causal[i][0] * latent->stride + causal[i][1];
    if (count % 2 != 0) own->inputs[count++] = inside; /* its weights are 0 */
    own->pairs = count / 2;
    return 1;
}

/* 16 sums of products, rectified, and two sums of these. All of it wraps around like unsigned numbers, which no
 * verified network makes use of. */
static inline void infer(const Channel *own, ptrdiff_t at, int32_t *expected, int32_t *scale) {
    const Program *const program = &own->program;
#if defined(__SSE2__)
    __m128i sums[4], hidden[2], both[2];
    for (int k = 0; k < 4; k++) sums[k] = _mm_loadu_si128((const __m128i *)(program->hidden_bias + 4 * k));
    for (int pair = 0; pair < own->pairs; pair++) {
        const uint32_t two = (uint16_t)own->inputs[2 * pair][at] | (uint32_t)(uint16_t)own->inputs[2 * pair + 1][at] << 16;
        const __m128i input = _mm_set1_epi32((int32_t)two);
        const __m128i *const weights = (const __m128i *)program->hidden_weight[pair];
        for (int k = 0; k < 4; k++) {
            sums[k] = _mm_add_epi32(sums[k], _mm_madd_epi16(input, _mm_loadu_si128(weights + k)));
        }
    }
    for (int k = 0; k < 2; k++) {
        const __m128i packed = _mm_packs_epi32(_mm_srai_epi32(sums[2 * k], HIDDEN_SHIFT),
                                               _mm_srai_epi32(sums[2 * k + 1], HIDDEN_SHIFT));
        hidden[k] = _mm_min_epi16(_mm_max_epi16(packed, _mm_setzero_si128()), _mm_set1_epi16(HIDDEN_LIMIT));
    }
    for (int k = 0; k < 2; k++) {
        const __m128i *const weights = (const __m128i *)program->output_weight[k];
        both[k] = _mm_add_epi32(_mm_madd_epi16(hidden[0], _mm_loadu_si128(weights)),
                                _mm_madd_epi16(hidden[1], _mm_loadu_si128(weights + 1)));
    }
    __m128i total = _mm_add_epi32(_mm_unpacklo_epi32(both[0], both[1]), _mm_unpackhi_epi32(both[0], both[1]));
    total = _mm_add_epi32(total, _mm_shuffle_epi32(total, _MM_SHUFFLE(1, 0, 3, 2)));
    total = _mm_add_epi32(total, _mm_loadl_epi64((const __m128i *)program->output_bias));
    total = _mm_srai_epi32(total, OUTPUT_SHIFT);
    *expected = _mm_cvtsi128_si32(total);
    *scale = _mm_cvtsi128_si32(_mm_shuffle_epi32(total, 1));
#else
    uint32_t sums[HIDDEN], both[2];
    for (int j = 0; j < HIDDEN; j++) sums[j] = (uint32_t)program->hidden_bias[j];
    for (int pair = 0; pair < own->pairs; pair++) {
        const int32_t one = own->inputs[2 * pair][at], two = own->inputs[2 * pair + 1][at];
        for (int j = 0; j < HIDDEN; j++) {
            sums[j] += (uint32_t)(one * program->hidden_weight[pair][j][0]) +
                       (uint32_t)(two * program->hidden_weight[pair][j][1]);
        }
    }
    for (int k = 0; k < 2; k++) both[k] = (uint32_t)program->output_bias[k];
    for (int j = 0; j < HIDDEN; j++) {
        int32_t hidden = shifted(sums[j], HIDDEN_SHIFT);
        hidden = hidden < 0 ? 0 : hidden > HIDDEN_LIMIT ? HIDDEN_LIMIT : hidden;
        for (int k = 0; k < 2; k++) both[k] += (uint32_t)(hidden * program->output_weight[k][j]);
    }
    *expected = shifted(both[0], OUTPUT_SHIFT);
    *scale = shifted(both[1], OUTPUT_SHIFT);
#endif
}

/* The table of a pixel; `level` is what its value is coded as the difference from. */
static inline ptrdiff_t context(const Channel *own, ptrdiff_t at, uint32_t *level) {
    int32_t expected, scale;
    if (own->program.table >= 0) {
        *level = 0;
        return own->program.table;
    }
    infer(own, at, &expected, &scale);
    const int32_t last = own->program.classes - 1;
    scale = scale < 0 ? 0 : scale > last ? last : scale;
    *level = (uint32_t)shifted((uint32_t)expected, 2);
    return (ptrdiff_t)scale * PHASES + (expected & (PHASES - 1));
}

#endif
