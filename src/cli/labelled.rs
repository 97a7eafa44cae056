//! `alexc compare --labels`: many images whose classes are known, and what a net says of them.

use super::failure::Failure;
use crate::arrays::Arrays;
use crate::input_file::{lines, read_at_most};
use crate::npy;
use crate::picture;
use crate::report::classes::answer;
use crate::session::Session;
use crate::shape::Shape;
use std::path::Path;

/// More lines than any set of images has.
const MOST_BYTES: u64 = 1 << 26;

/// Images and their classes, as many of one as of the other.
pub(super) struct Labelled {
    /// One after the other, dense.
    images: Vec<f32>,
    /// The right ones.
    pub(super) classes: Vec<usize>,
}

impl Labelled {
    /// Reads `images`, a .npy file or a .npz file with an array called `name`, and `labels`. `shape`
    /// is that of the net's input, whatever its batch; the net knows `classes`.
    pub(super) fn read(
        images: &Path,
        name: &str,
        labels: &Path,
        shape: Shape,
        classes: usize,
    ) -> Result<Self, Failure> {
        if picture::is_picture(images) {
            return Err(Failure::Usage(format!(
                "{}: with --labels, --input has all images as .npy or .npz; a picture is one",
                images.display()
            )));
        }
        let classes = read_labels(labels, classes)?;
        let npz = images.extension().is_some_and(|e| e.eq_ignore_ascii_case("npz"));
        let array = if npz {
            let mut arrays = Arrays::open(images)?;
            arrays.read(name)?.ok_or_else(|| {
                Failure::Input(format!(
                    "{}: no array is called `{name}`, as the net's input is; there are {}",
                    images.display(),
                    arrays.names().join(", ")
                ))
            })?
        } else {
            npy::read(images)?
        };
        let mut wanted = shape.dims();
        wanted[0] = classes.len();
        if array.shape() != wanted {
            return Err(Failure::Input(format!(
                "{}: the images' shape is {:?}; the {} labels of {} want {wanted:?}",
                images.display(),
                array.shape(),
                classes.len(),
                labels.display(),
            )));
        }
        Ok(Labelled { images: array.into_raw_vec_and_offset().0, classes })
    }

    /// The first `len` elements; images begin anew behind the last one.
    pub(super) fn first(&self, len: usize) -> Vec<f32> {
        self.images.iter().copied().cycle().take(len).collect()
    }

    /// What a net says of every image.
    pub(super) fn answers(&self, session: &mut dyn Session) -> Result<Vec<Option<usize>>, Failure> {
        let per_image = self.images.len() / self.classes.len();
        let [ins, outs] = [&session.program().input_dims, &session.program().output_dims];
        let (batch, classes) = (ins[0], outs[1..].iter().product());
        let mut input = self.first(batch * per_image);
        let mut output = vec![0.0; batch * classes];
        let mut answers = Vec::with_capacity(self.classes.len());
        for images in self.images.chunks(batch * per_image) {
            // Behind the last images of all, images from before fill the batch.
            input[..images.len()].copy_from_slice(images);
            session.run(&input, &mut output)?;
            answers.extend(output.chunks(classes).take(images.len() / per_image).map(answer));
        }
        Ok(answers)
    }
}

/// The class of each image: its number, one a line.
fn read_labels(path: &Path, classes: usize) -> Result<Vec<usize>, Failure> {
    let fail = |what: String| Failure::Input(format!("{}{what}", path.display()));
    let bytes = read_at_most(path, MOST_BYTES)
        .map_err(|e| fail(format!(": {e}")))?
        .ok_or_else(|| fail(format!(": a file of labels has at most {MOST_BYTES} bytes")))?;
    let lines = lines(&bytes).map_err(|_| {
        fail(": this is no text; write the class of each image, one a line".to_owned())
    })?;
    let class = |(index, line): (usize, &str)| {
        line.parse().ok().filter(|&class| class < classes).ok_or_else(|| {
            let (number, last) = (index + 1, classes - 1);
            fail(format!(":{number}: `{line}` is no class; the net has 0 to {last}"))
        })
    };
    let labels: Vec<usize> = lines.into_iter().enumerate().map(class).collect::<Result<_, _>>()?;
    if labels.is_empty() {
        return Err(fail(
            ": there are no labels; write the class of each image, one a line".to_owned(),
        ));
    }
    Ok(labels)
}
