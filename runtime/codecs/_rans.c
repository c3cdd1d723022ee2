/* The fast half of the rans codec: range-variant asymmetric numeral systems (J. Duda, arXiv:1311.2540).
 *
 * Decides nothing about the format: `rans.py` describes it and frames the streams, `rans_numpy.py` does the same
 * arithmetic, bit for bit. Here are only the two loops.
 *
 * Bodies come from a peer and tables from a file, so neither is trusted. Every table access stays inside a block of
 * fixed size whatever the block holds (an 8-bit index into 257 entries), every read of a stream is bounded by its end,
 * frequencies are checked before they divide, and all arithmetic on states is unsigned.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define PRECISION 12
#define TOTAL (1u << PRECISION)
#define LOW (1u << 23)                      /* a state below this takes in bytes, if any are left */
#define LIMIT_SHIFT (23 - PRECISION + 8)    /* a state of f << LIMIT_SHIFT or more gives off a byte first */
#define RAW_BITS 4                          /* an escaped value has TOTAL / 256 slots, so it costs 8 bits */
#define ENTRIES 257                         /* cumulative frequencies of at most 255 symbols, the escape, the end */
#define BLOCK (2 * (2 + ENTRIES))           /* bytes of a channel's table: first value, size, cumulative */
#define MAX_LANES 4
#define BYTES_PER_SYMBOL 4                  /* at most: an escape and its value, two bytes each */
#define UNLOCKED_FROM 32768                 /* below this many symbols, letting go of the lock costs more than it gives */

typedef enum { CODED = 0, BAD_TABLE, LEADING_ZERO, NEEDLESS_ESCAPE, LEFT_OVER } Status;

static const char *const COMPLAINT[] = {
    "coded",
    "a frequency table is inconsistent",
    "a stream starts with a zero byte",
    "a value is escaped that its table holds",
    "it holds more than the declared symbols",
};

typedef struct {
    uint32_t state;
    unsigned char *at; /* the stream grows downwards: the coder runs from the last symbol to the first */
} Writer;

typedef struct {
    uint32_t state;
    const unsigned char *at;
    const unsigned char *end;
} Reader;

static inline uint32_t load16(const unsigned char *bytes) {
    return (uint32_t)bytes[0] | ((uint32_t)bytes[1] << 8);
}

static inline void put(Writer *writer, uint32_t start, uint32_t frequency) {
    uint32_t state = writer->state;
    while (state >= frequency << LIMIT_SHIFT) {
        *--writer->at = (unsigned char)state;
        state >>= 8;
    }
    writer->state = ((state / frequency) << PRECISION) + start + state % frequency;
}

static inline void take(Reader *reader, uint32_t state) {
    while (state < LOW && reader->at != reader->end) {
        state = (state << 8) | *reader->at++;
    }
    reader->state = state;
}

/* Inlined with a constant number of lanes: a single lane then lives in registers, and several lanes are chains of
 * dependent operations that the processor overlaps. */
static inline Status encode_all(Writer *writers, const Py_ssize_t lanes, const unsigned char *symbols,
                                Py_ssize_t channels, Py_ssize_t plane, const unsigned char *tables) {
    Py_ssize_t i = channels * plane;
    for (Py_ssize_t channel = channels; channel-- > 0;) {
        const unsigned char *table = tables + channel * BLOCK;
        const unsigned char *cumulative = table + 4;
        const uint32_t first = load16(table), size = load16(table + 2);
        if (size >= ENTRIES - 1) return BAD_TABLE;
        for (Py_ssize_t j = plane; j-- > 0;) {
            --i;
            Writer *writer = &writers[i & (lanes - 1)];
            uint32_t index = (uint32_t)symbols[i] - first;
            if (index >= size) {
                put(writer, (uint32_t)symbols[i] << RAW_BITS, 1u << RAW_BITS);
                index = size;
            }
            const uint32_t start = load16(cumulative + 2 * index);
            const uint32_t frequency = load16(cumulative + 2 * index + 2) - start;
            if (frequency - 1 >= TOTAL) return BAD_TABLE;
            put(writer, start, frequency);
        }
    }
    for (Py_ssize_t lane = 0; lane < lanes; lane++) {
        for (uint32_t state = writers[lane].state; state != 0; state >>= 8) {
            *--writers[lane].at = (unsigned char)state;
        }
    }
    return CODED;
}

static inline Status decode_all(Reader *readers, const Py_ssize_t lanes, unsigned char *symbols, Py_ssize_t channels,
                                Py_ssize_t plane, const unsigned char *tables, const unsigned char *slots) {
    for (Py_ssize_t lane = 0; lane < lanes; lane++) {
        if (readers[lane].at != readers[lane].end && *readers[lane].at == 0) return LEADING_ZERO;
        take(&readers[lane], 0);
    }
    Py_ssize_t i = 0;
    for (Py_ssize_t channel = 0; channel < channels; channel++) {
        const unsigned char *table = tables + channel * BLOCK;
        const unsigned char *cumulative = table + 4;
        const unsigned char *index_of = slots + channel * TOTAL;
        const uint32_t first = load16(table), size = load16(table + 2);
        for (Py_ssize_t j = 0; j < plane; j++, i++) {
            Reader *reader = &readers[i & (lanes - 1)];
            uint32_t state = reader->state;
            uint32_t slot = state & (TOTAL - 1);
            const uint32_t index = index_of[slot];
            const uint32_t start = load16(cumulative + 2 * index);
            const uint32_t frequency = load16(cumulative + 2 * index + 2) - start;
            take(reader, frequency * (state >> PRECISION) + slot - start);
            if (index != size) {
                symbols[i] = (unsigned char)(first + index);
                continue;
            }
            state = reader->state;
            slot = state & (TOTAL - 1);
            const uint32_t value = slot >> RAW_BITS;
            if (value - first < size) return NEEDLESS_ESCAPE;
            symbols[i] = (unsigned char)value;
            take(reader, ((state >> PRECISION) << RAW_BITS) + (slot & ((1u << RAW_BITS) - 1)));
        }
    }
    for (Py_ssize_t lane = 0; lane < lanes; lane++) {
        if (readers[lane].state != 0 || readers[lane].at != readers[lane].end) return LEFT_OVER;
    }
    return CODED;
}

/* Returns the number of channels of `count` symbols, or -1 with an exception set. */
static Py_ssize_t check_shape(Py_ssize_t count, Py_ssize_t plane, Py_ssize_t lanes, Py_ssize_t tables_size) {
    if (count < 1 || count > PY_SSIZE_T_MAX / 8 || plane < 1 || count % plane != 0) {
        PyErr_SetString(PyExc_ValueError, "the symbols do not fill whole channels");
        return -1;
    }
    if (lanes != 1 && lanes != MAX_LANES) {
        PyErr_SetString(PyExc_ValueError, "the number of lanes is not one this coder has");
        return -1;
    }
    if (count / plane > tables_size / BLOCK) {
        PyErr_SetString(PyExc_ValueError, "there are more channels than tables");
        return -1;
    }
    return count / plane;
}

static PyObject *to_tuple(Writer *writers, unsigned char *const *ends, Py_ssize_t lanes) {
    PyObject *streams = PyTuple_New(lanes);
    for (Py_ssize_t lane = 0; streams != NULL && lane < lanes; lane++) {
        PyObject *stream = PyBytes_FromStringAndSize((char *)writers[lane].at, ends[lane] - writers[lane].at);
        if (stream == NULL || PyTuple_SetItem(streams, lane, stream) != 0) { /* SetItem takes the reference */
            Py_DECREF(streams);
            return NULL;
        }
    }
    return streams;
}

static PyObject *rans_encode(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *symbols_object, *tables_object;
    Py_ssize_t plane, lanes, count, tables_size;
    char *symbols, *tables;
    if (!PyArg_ParseTuple(args, "SnSn:encode", &symbols_object, &plane, &tables_object, &lanes)) return NULL;
    if (PyBytes_AsStringAndSize(symbols_object, &symbols, &count) != 0) return NULL;
    if (PyBytes_AsStringAndSize(tables_object, &tables, &tables_size) != 0) return NULL;
    const Py_ssize_t channels = check_shape(count, plane, lanes, tables_size);
    if (channels < 0) return NULL;

    const Py_ssize_t room = BYTES_PER_SYMBOL * ((count + lanes - 1) / lanes + 1); /* and the last state */
    unsigned char *buffer = PyMem_Malloc((size_t)(room * lanes));
    if (buffer == NULL) return PyErr_NoMemory();
    Writer writers[MAX_LANES];
    unsigned char *ends[MAX_LANES];
    for (Py_ssize_t lane = 0; lane < lanes; lane++) {
        ends[lane] = buffer + room * (lane + 1);
        writers[lane] = (Writer){0, ends[lane]};
    }
    const unsigned char *from = (const unsigned char *)symbols, *table = (const unsigned char *)tables;
    PyThreadState *unlocked = count >= UNLOCKED_FROM ? PyEval_SaveThread() : NULL;
    const Status status = lanes == 1 ? encode_all(writers, 1, from, channels, plane, table)
                                     : encode_all(writers, MAX_LANES, from, channels, plane, table);
    if (unlocked != NULL) PyEval_RestoreThread(unlocked);
    PyObject *streams = NULL;
    if (status == CODED) {
        streams = to_tuple(writers, ends, lanes);
    } else {
        PyErr_SetString(PyExc_ValueError, COMPLAINT[status]);
    }
    PyMem_Free(buffer);
    return streams;
}

static PyObject *rans_decode(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *streams, *tables_object, *slots_object;
    Py_ssize_t count, plane, tables_size, slots_size;
    char *tables, *slots;
    if (!PyArg_ParseTuple(args, "O!nnSS:decode", &PyTuple_Type, &streams, &count, &plane, &tables_object,
                          &slots_object)) {
        return NULL;
    }
    if (PyBytes_AsStringAndSize(tables_object, &tables, &tables_size) != 0) return NULL;
    if (PyBytes_AsStringAndSize(slots_object, &slots, &slots_size) != 0) return NULL;
    const Py_ssize_t lanes = PyTuple_Size(streams);
    const Py_ssize_t channels = check_shape(count, plane, lanes, tables_size);
    if (channels < 0) return NULL;
    if (channels > slots_size / (Py_ssize_t)TOTAL) {
        PyErr_SetString(PyExc_ValueError, "there are more channels than slot tables");
        return NULL;
    }
    Reader readers[MAX_LANES];
    for (Py_ssize_t lane = 0; lane < lanes; lane++) {
        char *bytes;
        Py_ssize_t size;
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(streams, lane), &bytes, &size) != 0) return NULL;
        readers[lane] = (Reader){0, (unsigned char *)bytes, (unsigned char *)bytes + size};
    }
    PyObject *result = PyByteArray_FromStringAndSize(NULL, count);
    if (result == NULL) return NULL;
    unsigned char *to = (unsigned char *)PyByteArray_AsString(result);
    const unsigned char *table = (const unsigned char *)tables, *slot = (const unsigned char *)slots;
    PyThreadState *unlocked = count >= UNLOCKED_FROM ? PyEval_SaveThread() : NULL;
    const Status status = lanes == 1 ? decode_all(readers, 1, to, channels, plane, table, slot)
                                     : decode_all(readers, MAX_LANES, to, channels, plane, table, slot);
    if (unlocked != NULL) PyEval_RestoreThread(unlocked);
    if (status != CODED) {
        Py_DECREF(result);
        PyErr_SetString(PyExc_ValueError, COMPLAINT[status]);
        return NULL;
    }
    return result;
}

static PyMethodDef methods[] = {
    {"encode", rans_encode, METH_VARARGS,
     "encode(symbols: bytes, plane: int, tables: bytes, lanes: int) -> tuple[bytes, ...]"},
    {"decode", rans_decode, METH_VARARGS,
     "decode(streams: tuple[bytes, ...], count: int, plane: int, tables: bytes, slots: bytes) -> bytearray"},
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
