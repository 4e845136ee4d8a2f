//! Texts and arrays that cross the native interface.

use tcpcopy_plugin_abi::{Slice, Text};

/// What a plugin passes; only for the call, or as long as the library is loaded for what its descriptor refers to.
///
/// # Safety
/// Unless its pointer is null or misaligned, `slice` must refer to as many initialised elements as it says, which live and do not
/// change as long as `'a`.
pub(super) unsafe fn slice<'a, T>(slice: Slice<T>) -> Option<&'a [T]> {
    if slice.data.is_null()
        || !slice.data.is_aligned()
        || slice.length.checked_mul(size_of::<T>()).is_none_or(|size| isize::try_from(size).is_err())
    {
        return None;
    }
    // SAFETY: pointer and size were checked as far as they can be; the rest is the caller's promise.
    Some(unsafe { std::slice::from_raw_parts(slice.data, slice.length) })
}

/// As [`slice()`], for UTF-8.
///
/// # Safety
/// As for [`slice()`].
pub(super) unsafe fn text<'a>(text: Text) -> Option<&'a str> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { slice(Slice { data: text.data, length: text.length }) }?;
    std::str::from_utf8(bytes).ok()
}

/// For passing `items`.
pub(super) fn lend<T>(items: &[T]) -> Slice<T> {
    Slice { data: items.as_ptr(), length: items.len() }
}

/// For passing `text`.
pub(super) fn lend_text(text: &str) -> Text {
    Text { data: text.as_ptr(), length: text.len() }
}
