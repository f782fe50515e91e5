from luna_lambda_tools import LambdaUserHandler, StandaloneLambdaRequest

notes = {1: "buy milk"}


class Notes(LambdaUserHandler):
    route = "/notes"

    async def get(self):
        page, size = self.getPagination()
        shown = sorted(notes.items())[(page - 1) * size : page * size]
        return {"notes": [{"id": id, "text": text} for id, text in shown]}

    async def post(self):
        id = max(notes, default=0) + 1
        notes[id] = str(self.loadDataFromJson())
        return self.success({"id": id}, 201)


class Note(LambdaUserHandler):
    route = "/notes/<id:int>"

    async def get(self, id):
        if id not in notes:
            return self.error(404, f"there is no note {id}")
        return {"id": id, "text": notes[id]}

    async def delete(self, id):
        notes.pop(id, None)
        return self.success(statusCode=204)


async def main(request: StandaloneLambdaRequest) -> dict:
    return {"notes": len(notes)}
