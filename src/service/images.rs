//! Images: pull, import, list, get, delete.

use dataplane_api::types::{self, Fault, ImageSource, RegistryCredentials};
use dataplane_api::{
    CreateImage, CreateImageReply, Cx, DeleteImage, DeleteImageReply, ETag, GetImage, GetImageReply, ImagesApi,
    ImportImage, ImportImageReply, LabelFilter, ListImages, ListImagesReply, Problem, ProblemCode, page,
};
use dataplane_images::{Created, Credentials, ImageStatus, ImageView, ImportRequest, PullRequest};
use dataplane_types::ImageId;

use super::instances::environment;
use super::{Dataplane, problems};

impl ImagesApi for Dataplane {
    async fn list_images(&self, _: Cx, request: ListImages) -> Result<ListImagesReply, Problem> {
        let views = self.images.list();
        let wanted = views.iter().filter(|view| LabelFilter::all_match(&request.label, &view.labels)).map(to_wire);
        let (items, next_cursor) = page(wanted, |item| item.id.as_str(), request.cursor.as_ref(), request.limit);
        Ok(ListImagesReply::Ok { body: types::ImageList { items, next_cursor } })
    }

    async fn create_image(&self, cx: Cx, request: CreateImage) -> Result<CreateImageReply, Problem> {
        let body = request.body;
        let platform = body.platform.as_deref().map(str::parse).transpose();
        let ImageSource::Registry = body.source;
        let pull = PullRequest {
            name: body.name,
            id: body.id,
            platform: platform.map_err(|_| {
                Problem::invalid_field("platform", "must be os/architecture or os/architecture/variant")
            })?,
            credentials: credentials(body.credentials)?,
            labels: body.labels,
        };
        let created =
            cx.timed("resolve", self.images.create(pull)).await.map_err(|error| problems::of_images(&error))?;
        let Created { image, existed } = created;
        if image.status != ImageStatus::Ready && request.prefer.is_some_and(|prefer| prefer.respond_async) {
            let (etag, location) = (etag(&image), GetImage::location(&image.id));
            return Ok(CreateImageReply::Accepted { etag, location, body: to_wire(&image) });
        }
        let image = cx.timed("pull", self.images.wait(&image.id)).await.map_err(|error| problems::of_images(&error))?;
        let (etag, location, body) = (etag(&image), GetImage::location(&image.id), to_wire(&image));
        Ok(if existed {
            CreateImageReply::Ok { etag, body }
        } else {
            CreateImageReply::Created { etag, location, body }
        })
    }

    async fn import_image(&self, cx: Cx, request: ImportImage) -> Result<ImportImageReply, Problem> {
        let import = ImportRequest { name: request.name, id: request.id, ..ImportRequest::default() };
        let work = self.images.import(import, request.body.into_reader());
        let Created { image, existed } = cx.timed("import", work).await.map_err(|error| problems::of_images(&error))?;
        let (etag, location, body) = (etag(&image), GetImage::location(&image.id), to_wire(&image));
        Ok(if existed {
            ImportImageReply::Ok { etag, body }
        } else {
            ImportImageReply::Created { etag, location, body }
        })
    }

    async fn get_image(&self, _: Cx, request: GetImage) -> Result<GetImageReply, Problem> {
        let image = self.images.get(&request.image_id).ok_or_else(|| not_found(&request.image_id))?;
        Ok(GetImageReply::Ok { etag: etag(&image), body: to_wire(&image) })
    }

    async fn delete_image(&self, _: Cx, request: DeleteImage) -> Result<DeleteImageReply, Problem> {
        let image = self.images.get(&request.image_id).ok_or_else(|| not_found(&request.image_id))?;
        etag(&image).require(request.if_match.as_ref())?;
        let instances = self.instances.clone();
        let in_use = move |digest: &_| instances.user_of_image(digest).map(|id| format!("instance {id}"));
        self.images.delete(&request.image_id, in_use).await.map_err(|error| problems::of_images(&error))?;
        Ok(DeleteImageReply::NoContent)
    }
}

fn not_found(id: &ImageId) -> Problem {
    Problem::new(ProblemCode::ImageNotFound, format!("no image {id}"))
}

fn etag(image: &ImageView) -> ETag {
    ETag::new(image.uuid, image.generation)
}

fn credentials(given: Option<RegistryCredentials>) -> Result<Option<Credentials>, Problem> {
    let Some(RegistryCredentials { username, password, registry_token }) = given else { return Ok(None) };
    match (username, password, registry_token) {
        (Some(username), Some(password), None) => {
            Ok(Some(Credentials::Basic { username, password: password.expose().to_owned() }))
        }
        (None, None, Some(token)) => Ok(Some(Credentials::Bearer(token.expose().to_owned()))),
        (None, None, None) => Ok(None),
        _ => Err(Problem::invalid_field("credentials", "must be username and password, or registry_token alone")),
    }
}

fn to_wire(image: &ImageView) -> types::Image {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let ready = image.digest.is_some();
    types::Image {
        id: image.id.clone(),
        name: image.name.clone(),
        digest: image.digest,
        version: image.version.clone(),
        status: match image.status {
            ImageStatus::Pending => types::ImageStatus::Pending,
            ImageStatus::Pulling => types::ImageStatus::Pulling,
            ImageStatus::Converting => types::ImageStatus::Converting,
            ImageStatus::Ready => types::ImageStatus::Ready,
            ImageStatus::Failed => types::ImageStatus::Failed,
        },
        progress: (image.status != ImageStatus::Ready).then_some(types::Progress {
            done_bytes: image.progress.done_bytes,
            total_bytes: image.progress.total_bytes,
        }),
        error: image.error.as_ref().map(|failure| Fault {
            code: failure.code.to_string(),
            message: failure.message.chars().take(4096).collect(),
            at: failure.at,
        }),
        size_bytes: ready.then_some(image.size_bytes),
        virtual_size_bytes: ready.then_some(image.virtual_size_bytes),
        platform: Some(image.platform.to_string()),
        entrypoint: image.entrypoint.clone(),
        cmd: image.cmd.clone(),
        env: environment(&image.env),
        working_dir: text(&image.working_dir),
        user: text(&image.user),
        stop_signal: text(&image.stop_signal),
        exposed_ports: image.exposed_ports.clone(),
        labels: image.labels.clone(),
        created_at: image.created_at,
    }
}
