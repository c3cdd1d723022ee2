/* The fast half of the rans codec: range-variant asymmetric numeral systems (J. Duda, arXiv:1311.2540).
 *
 * Decides nothing about the format: `rans.py` describes the stream; `rans_numpy.py`
 * does the same arithmetic, bit for bit. Here are only the loops.
 *
 * Bodies come from a peer and tables from a file, so neither is trusted. Every table access stays inside a block of
 * fixed size whatever the block holds (an 8-bit index into 257 entries), every read of a stream is bounded by its end,
 * frequencies are checked before they divide, and all arithmetic on states is unsigned.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>
#include "_contexts.h"

#define PRECISION 12
#define TOTAL (1u << PRECISION)
#define LOW (1u << 23)                      /* a state below this takes in bytes, if any are left */
#define LIMIT_SHIFT (23 - PRECISION + 8)    /* a state of f << LIMIT_SHIFT or more gives off a byte first */
#define RAW_BITS 4                          /* an escaped value has TOTAL / 256 slots, so it costs 8 bits */
#define ENTRIES 257                         /* cumulative frequencies of at most 255 symbols, the escape, the end */
#define BLOCK (2 * (2 + ENTRIES))           /* bytes of a table: first value, size, cumulative */
#define BYTES_PER_SYMBOL 4                  /* at most: an escape and its value, two bytes each */
#define UNLOCKED_FROM 8192                  /* below this many symbols, letting go of the lock costs more than it gives */

typedef enum { CODED = 0, BAD_TABLE, BAD_NETWORK, LEADING_ZERO, NEEDLESS_ESCAPE, LEFT_OVER } Status;

static const char *const COMPLAINT[] = {
    "coded",
    "a frequency table is inconsistent",
    "a context network is inconsistent",
    "the stream starts with a zero byte",
    "a value is escaped that its table holds",
    "it holds more than the declared symbols",
};

typedef struct {
    uint32_t state;
    const unsigned char *at;
    const unsigned char *end;
} Reader;

static inline uint32_t load16(const unsigned char *bytes) {
    return (uint32_t)bytes[0] | ((uint32_t)bytes[1] << 8);
}

static inline void put(uint32_t *state, unsigned char **at, uint32_t start, uint32_t frequency) {
    while (*state >= frequency << LIMIT_SHIFT) {
        *--*at = (unsigned char)*state;
        *state >>= 8;
    }
    *state = ((*state / frequency) << PRECISION) + start + *state % frequency;
}

static inline void fill(Reader *reader, uint32_t state) {
    while (state < LOW && reader->at != reader->end) {
        state = (state << 8) | *reader->at++;
    }
    reader->state = state;
}

/* `fill` after a step, which leaves at least 11 bits while bytes are left: it takes in none, one or two. How many is as
 * good as random, and a branch mispredicted here would hold up the next pixel's sums. */
static inline void take(Reader *reader, uint32_t state) {
    if (reader->end - reader->at < 2) {
        fill(reader, state);
        return;
    }
    const unsigned bits = 8 * ((state < LOW) + (state < (LOW >> 8)));
    const uint32_t next = (uint32_t)reader->at[0] << 8 | reader->at[1];
    reader->state = (state << bits) | (next >> (16 - bits));
    reader->at += bits / 8;
}

/* First every pixel's table and difference, in the decoder's order; then the coder, which runs backwards. */
static Status encode_all(const Latent *latent, const unsigned char *symbols, uint16_t *chosen,
                         unsigned char *differences, unsigned char **at) {
    const Py_ssize_t size = latent->height * latent->width;
    for (Py_ssize_t channel = 0; channel < latent->channels; channel++) {
        for (Py_ssize_t y = 0; y < latent->height; y++) {
            int16_t *const row = latent->planes + (1 + channel) * latent->plane + (y + 1) * latent->stride + 1;
            for (Py_ssize_t x = 0; x < latent->width; x++) {
                row[x] = (int16_t)(symbols[channel * size + y * latent->width + x] - 128);
            }
        }
    }
    Py_ssize_t i = 0;
    for (Py_ssize_t channel = 0; channel < latent->channels; channel++) {
        Channel own;
        if (!open_channel(&own, latent, channel)) return BAD_NETWORK;
        for (Py_ssize_t y = 0; y < latent->height; y++) {
            for (Py_ssize_t x = 0; x < latent->width; x++, i++) {
                uint32_t level;
                chosen[i] = (uint16_t)context(&own, y * latent->stride + x, &level);
                differences[i] = (unsigned char)(symbols[i] - level);
            }
        }
    }
    uint32_t state = 0;
    while (i-- > 0) {
        const unsigned char *const table = latent->tables + (Py_ssize_t)chosen[i] * BLOCK;
        const unsigned char *const cumulative = table + 4;
        const uint32_t first = load16(table), size_of = load16(table + 2);
        if (size_of >= ENTRIES - 1) return BAD_TABLE;
        uint32_t index = (uint32_t)differences[i] - first;
        if (index >= size_of) {
            put(&state, at, (uint32_t)differences[i] << RAW_BITS, 1u << RAW_BITS);
            index = size_of;
        }
        const uint32_t start = load16(cumulative + 2 * index);
        const uint32_t frequency = load16(cumulative + 2 * index + 2) - start;
        if (frequency - 1 >= TOTAL) return BAD_TABLE;
        put(&state, at, start, frequency);
    }
    for (; state != 0; state >>= 8) *--*at = (unsigned char)state;
    return CODED;
}

static Status decode_all(const Latent *latent, Reader *reader, unsigned char *symbols, const unsigned char *slots) {
    if (reader->at != reader->end && *reader->at == 0) return LEADING_ZERO;
    fill(reader, 0);
    for (Py_ssize_t channel = 0; channel < latent->channels; channel++) {
        Channel own;
        if (!open_channel(&own, latent, channel)) return BAD_NETWORK;
        int16_t *const plane = latent->planes + (1 + channel) * latent->plane + latent->stride + 1;
        for (Py_ssize_t y = 0; y < latent->height; y++) {
            for (Py_ssize_t x = 0; x < latent->width; x++) {
                const Py_ssize_t at = y * latent->stride + x;
                uint32_t level;
                const Py_ssize_t chosen = context(&own, at, &level);
                const unsigned char *const table = latent->tables + chosen * BLOCK;
                const unsigned char *const cumulative = table + 4;
                const uint32_t first = load16(table), size = load16(table + 2);
                const uint32_t slot = reader->state & (TOTAL - 1);
                const uint32_t index = slots[chosen * (Py_ssize_t)TOTAL + slot];
                const uint32_t start = load16(cumulative + 2 * index);
                const uint32_t frequency = load16(cumulative + 2 * index + 2) - start;
                take(reader, frequency * (reader->state >> PRECISION) + slot - start);
                uint32_t difference = first + index;
                if (index == size) {
                    const uint32_t state = reader->state, raw = state & (TOTAL - 1);
                    difference = raw >> RAW_BITS;
                    if (difference - first < size) return NEEDLESS_ESCAPE;
                    take(reader, ((state >> PRECISION) << RAW_BITS) + (raw & ((1u << RAW_BITS) - 1)));
                }
                *symbols = (unsigned char)(difference + level);
                plane[at] = (int16_t)(*symbols++ - 128);
            }
        }
    }
    return reader->state != 0 || reader->at != reader->end ? LEFT_OVER : CODED;
}

/* Fills in `latent` with planes of its own, or returns NULL with an exception set. */
static int16_t *open_latent(Latent *latent, Py_ssize_t tables_size, Py_ssize_t programs_size) {
    const Py_ssize_t limit = (Py_ssize_t)1 << 20;
    if (latent->channels < 1 || latent->height < 1 || latent->width < 1 || latent->channels > limit ||
        latent->height > limit || latent->width > limit ||
        latent->channels > (PY_SSIZE_T_MAX >> 7) / latent->height / latent->width) {
        PyErr_SetString(PyExc_ValueError, "the symbols do not fill whole channels");
        return NULL;
    }
    if (latent->channels > programs_size / (Py_ssize_t)sizeof(Program)) {
        PyErr_SetString(PyExc_ValueError, "there are more channels than networks");
        return NULL;
    }
    latent->table_count = tables_size / BLOCK;
    if (latent->table_count > UINT16_MAX) {
        PyErr_SetString(PyExc_ValueError, "there are too many tables");
        return NULL;
    }
    latent->stride = latent->width + 2;
    latent->plane = (latent->height + 2) * latent->stride;
    const size_t bytes = (size_t)(1 + latent->channels) * (size_t)latent->plane * sizeof(int16_t);
    latent->planes = PyMem_Malloc(bytes);
    if (latent->planes == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    memset(latent->planes, 0, bytes);
    for (Py_ssize_t y = 1; y <= latent->height; y++) {
        for (Py_ssize_t x = 1; x <= latent->width; x++) latent->planes[y * latent->stride + x] = INSIDE;
    }
    return latent->planes;
}

static PyObject *rans_encode(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *symbols_object, *tables_object, *programs_object;
    Py_ssize_t count, tables_size, programs_size;
    char *symbols, *tables, *programs;
    Latent latent = {0};
    if (!PyArg_ParseTuple(args, "SnnSS:encode", &symbols_object, &latent.height, &latent.width, &tables_object,
                          &programs_object)) {
        return NULL;
    }
    if (PyBytes_AsStringAndSize(symbols_object, &symbols, &count) != 0) return NULL;
    if (PyBytes_AsStringAndSize(tables_object, &tables, &tables_size) != 0) return NULL;
    if (PyBytes_AsStringAndSize(programs_object, &programs, &programs_size) != 0) return NULL;
    if (latent.height > 0 && latent.width > 0 && latent.height <= count / latent.width &&
        count % (latent.height * latent.width) == 0) {
        latent.channels = count / (latent.height * latent.width);
    }
    latent.tables = (const unsigned char *)tables;
    latent.programs = programs;
    if (open_latent(&latent, tables_size, programs_size) == NULL) return NULL;

    const Py_ssize_t room = BYTES_PER_SYMBOL * (count + 1); /* and the last state */
    unsigned char *const buffer = PyMem_Malloc((size_t)(room + 3 * count));
    PyObject *stream = NULL;
    if (buffer == NULL) {
        PyErr_NoMemory();
    } else {
        unsigned char *at = buffer + room;
        uint16_t *const chosen = (uint16_t *)(void *)(buffer + room);
        PyThreadState *unlocked = count >= UNLOCKED_FROM ? PyEval_SaveThread() : NULL;
        const Status status = encode_all(&latent, (const unsigned char *)symbols, chosen,
                                         buffer + room + 2 * count, &at);
        if (unlocked != NULL) PyEval_RestoreThread(unlocked);
        if (status == CODED) {
            stream = PyBytes_FromStringAndSize((char *)at, buffer + room - at);
        } else {
            PyErr_SetString(PyExc_ValueError, COMPLAINT[status]);
        }
        PyMem_Free(buffer);
    }
    PyMem_Free(latent.planes);
    return stream;
}

static PyObject *rans_decode(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *stream_object, *tables_object, *slots_object, *programs_object;
    Py_ssize_t stream_size, tables_size, slots_size, programs_size;
    char *stream, *tables, *slots, *programs;
    Latent latent = {0};
    if (!PyArg_ParseTuple(args, "SnnnSSS:decode", &stream_object, &latent.channels, &latent.height, &latent.width,
                          &tables_object, &slots_object, &programs_object)) {
        return NULL;
    }
    if (PyBytes_AsStringAndSize(stream_object, &stream, &stream_size) != 0) return NULL;
    if (PyBytes_AsStringAndSize(tables_object, &tables, &tables_size) != 0) return NULL;
    if (PyBytes_AsStringAndSize(slots_object, &slots, &slots_size) != 0) return NULL;
    if (PyBytes_AsStringAndSize(programs_object, &programs, &programs_size) != 0) return NULL;
    if (tables_size / BLOCK > slots_size / (Py_ssize_t)TOTAL) {
        PyErr_SetString(PyExc_ValueError, "there are more tables than slot tables");
        return NULL;
    }
    latent.tables = (const unsigned char *)tables;
    latent.programs = programs;
    if (open_latent(&latent, tables_size, programs_size) == NULL) return NULL;
    const Py_ssize_t count = latent.channels * latent.height * latent.width;
    PyObject *result = PyByteArray_FromStringAndSize(NULL, count);
    if (result != NULL) {
        unsigned char *const to = (unsigned char *)PyByteArray_AsString(result);
        Reader reader = {0, (unsigned char *)stream, (unsigned char *)stream + stream_size};
        PyThreadState *unlocked = count >= UNLOCKED_FROM ? PyEval_SaveThread() : NULL;
        const Status status = decode_all(&latent, &reader, to, (const unsigned char *)slots);
        if (unlocked != NULL) PyEval_RestoreThread(unlocked);
        if (status != CODED) {
            Py_DECREF(result);
            result = NULL;
            PyErr_SetString(PyExc_ValueError, COMPLAINT[status]);
        }
    }
    PyMem_Free(latent.planes);
    return result;
}

static PyMethodDef methods[] = {
    {"encode", rans_encode, METH_VARARGS,
     "encode(symbols: bytes, height: int, width: int, tables: bytes, programs: bytes) -> bytes"},
    {"decode", rans_decode, METH_VARARGS,
     "decode(stream: bytes, channels: int, height: int, width: int, tables: bytes, slots: bytes, programs: bytes)"
     " -> bytearray"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot module_slots[] = {{0, NULL}};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_rans", .m_doc = "The loops of the rans codec.",
    .m_size = 0,           .m_methods = methods, .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__rans(void) {
    return PyModuleDef_Init(&module_definition);
}
