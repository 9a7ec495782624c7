//! Plain data as JSON: text is what crosses from here to JavaScript fastest, and from tab to tab.
//!
//! It writes what `types` are made of and nothing else. `serde_json` does it as well, and weighs 3 KB more; with raw values,
//! which bodies need, it brings a parser and the tables of floating point, 12 KB.

use core::fmt;

use serde::Serialize;
use serde::ser::{self, Impossible, SerializeSeq, SerializeStruct, Serializer};

/// A newtype of this name holds JSON, and stands as it is.
const JSON: &str = "JSON";

/// Adds the JSON of a value.
pub(crate) fn write_text(text: &mut String, value: &impl Serialize) {
    // Fails for what `types` do not have.
    let done = value.serialize(Writer { text, raw: false });
    debug_assert!(done.is_ok());
}

struct Writer<'a> {
    text: &'a mut String,
    /// The next string is JSON.
    raw: bool,
}

/// A kind of data that `types` do not have.
#[derive(Debug)]
struct Unknown;

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no plain data")
    }
}

impl core::error::Error for Unknown {}

impl ser::Error for Unknown {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

type Written = Result<(), Unknown>;

/// Inside of a list or an object.
struct Inside<'a> {
    text: &'a mut String,
    is_first: bool,
    end: char,
}

impl<'a> Inside<'a> {
    fn new(text: &'a mut String, begin: char, end: char) -> Self {
        text.push(begin);
        Self { text, is_first: true, end }
    }

    #[inline(never)]
    fn next(&mut self) -> Writer<'_> {
        if !core::mem::take(&mut self.is_first) {
            self.text.push(',');
        }
        Writer { text: self.text, raw: false }
    }

    #[inline(never)]
    fn field(&mut self, name: &str) -> Writer<'_> {
        string(self.next().text, name);
        self.text.push(':');
        Writer { text: self.text, raw: false }
    }

    #[inline(never)]
    fn close(self) -> Written {
        self.text.push(self.end);
        Ok(())
    }
}

impl SerializeSeq for Inside<'_> {
    type Ok = ();
    type Error = Unknown;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        value.serialize(self.next())
    }

    fn end(self) -> Written {
        self.close()
    }
}

impl SerializeStruct for Inside<'_> {
    type Ok = ();
    type Error = Unknown;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Written {
        value.serialize(self.field(name))
    }

    fn end(self) -> Written {
        self.close()
    }
}

// Indexing would bring what panics say of it, and so the tables of Unicode.
#[inline(never)]
fn string(text: &mut String, value: &str) {
    let part = |from, to| value.get(from..to).unwrap_or_default();
    text.push('"');
    let mut from = 0;
    for (at, byte) in value.bytes().enumerate() {
        if byte >= b' ' && byte != b'"' && byte != b'\\' {
            continue;
        }
        text.push_str(part(from, at));
        from = at + 1;
        text.push('\\');
        if byte < b' ' {
            text.push_str("u00");
            text.push(if byte < 16 { '0' } else { '1' });
            text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        } else {
            text.push(char::from(byte));
        }
    }
    text.push_str(part(from, value.len()));
    text.push('"');
}

#[inline(never)]
fn whole(text: &mut String, value: u64) {
    if value >= 10 {
        whole(text, value / 10);
    }
    text.push(char::from(b'0' + u8::try_from(value % 10).unwrap_or_default()));
}

/// The kinds of data that `types` do not have.
macro_rules! unknown {
    ($($name:ident($($kind:ty),*) -> $written:ty;)*) => {
        $(fn $name(self, $(_: $kind),*) -> Result<$written, Unknown> { Err(Unknown) })*
    };
}

impl<'a> Serializer for Writer<'a> {
    type Ok = ();
    type Error = Unknown;
    type SerializeSeq = Inside<'a>;
    type SerializeTuple = Impossible<(), Unknown>;
    type SerializeStruct = Inside<'a>;
    type SerializeTupleStruct = Impossible<(), Unknown>;
    type SerializeTupleVariant = Impossible<(), Unknown>;
    type SerializeMap = Impossible<(), Unknown>;
    type SerializeStructVariant = Impossible<(), Unknown>;

    fn serialize_bool(self, value: bool) -> Written {
        self.text.push_str(if value { "true" } else { "false" });
        Ok(())
    }

    fn serialize_u32(self, value: u32) -> Written {
        self.serialize_u64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Written {
        whole(self.text, value);
        Ok(())
    }

    fn serialize_str(self, value: &str) -> Written {
        if self.raw {
            self.text.push_str(value);
        } else {
            string(self.text, value);
        }
        Ok(())
    }

    fn serialize_none(self) -> Written {
        self.text.push_str("null");
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Written {
        value.serialize(Writer { text: self.text, raw: name == JSON })
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Inside<'a>, Unknown> {
        Ok(Inside::new(self.text, '[', ']'))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Inside<'a>, Unknown> {
        Ok(Inside::new(self.text, '{', '}'))
    }

    unknown! {
        serialize_i8(i8) -> ();
        serialize_i16(i16) -> ();
        serialize_i32(i32) -> ();
        serialize_i64(i64) -> ();
        serialize_u8(u8) -> ();
        serialize_u16(u16) -> ();
        serialize_f32(f32) -> ();
        serialize_f64(f64) -> ();
        serialize_char(char) -> ();
        serialize_bytes(&[u8]) -> ();
        serialize_unit() -> ();
        serialize_unit_struct(&'static str) -> ();
        serialize_unit_variant(&'static str, u32, &'static str) -> ();
        serialize_tuple(usize) -> Impossible<(), Unknown>;
        serialize_tuple_struct(&'static str, usize) -> Impossible<(), Unknown>;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Impossible<(), Unknown>;
        serialize_map(Option<usize>) -> Impossible<(), Unknown>;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Impossible<(), Unknown>;
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Written {
        Err(Unknown)
    }
}
